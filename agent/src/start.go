package main

import (
	"encoding/json"
	"math"
	"strings"
	"time"
)

type startRequest struct {
	Argv     []byteString
	Env      []byteString
	ClearEnv bool `json:"clear_env"`
	Cwd      byteString
	MakeCwd  bool `json:"make_cwd"`
	User     *userRequest
	Stdin    bool
	TTY      *struct {
		Rows, Cols uint16
		Term       string
	}
	Merge   bool
	Credit  []int64
	Timeout *float64
	Grace   float64
	Umask   *int
	Rlimits map[string][]int64
	Detach  *byteString
}

type userRequest struct {
	UID    *uint32
	GID    *uint32
	Groups []uint32
	Name   byteString
}

func (u *userRequest) check() *Failure {
	named := u != nil && u.Name != "" && u.UID == nil && u.GID == nil && u.Groups == nil
	numbered := u != nil && u.Name == "" && u.UID != nil && *u.UID != math.MaxUint32 &&
		(u.GID == nil || *u.GID != math.MaxUint32)
	if u == nil || named || numbered {
		return nil
	}
	return invalid("user is a name, or a uid with gid and groups")
}

// spec says who is meant; nil is the agent's own user. Groups that the client left out are those of the user's line
// in the passwd file.
func (u *userRequest) spec() *UserSpec {
	if u == nil {
		return nil
	}
	if u.Name != "" {
		return &UserSpec{Name: string(u.Name)}
	}
	spec := &UserSpec{Uid: *u.UID, Gid: *u.UID, Groups: u.Groups}
	if u.GID == nil || u.Groups == nil {
		if line, failed := LookupUser(&UserSpec{Uid: *u.UID}); failed == nil && line.Name != "" {
			known, failed := LookupUser(&UserSpec{Name: line.Name})
			if failed == nil && known.Uid == *u.UID {
				spec.Gid = known.Gid
				if u.Groups == nil {
					spec.Groups = known.Groups
				}
			}
		}
	}
	if u.GID != nil {
		spec.Gid = *u.GID
	}
	return spec
}

// decodeStart checks everything that can be known without the system.
func decodeStart(payload []byte) (*startRequest, *Spec, *Failure) {
	r := startRequest{Cwd: "/"}
	if payload[0] != '{' {
		return nil, nil, invalid("the request is no JSON object")
	}
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, nil, invalid(err.Error())
	}
	spec := &Spec{
		Argv: plain(r.Argv), Env: plain(r.Env), ClearEnv: r.ClearEnv, Cwd: string(r.Cwd), MakeCwd: r.MakeCwd,
		Stdin: r.Stdin, Merge: r.Merge, Umask: 0o022,
	}
	if r.Umask != nil {
		spec.Umask = *r.Umask
	}
	if r.TTY != nil {
		if _, ok := latin1(r.TTY.Term); !ok {
			return nil, nil, invalid("term")
		}
		spec.TTY = &TTYSpec{r.TTY.Rows, r.TTY.Cols, r.TTY.Term}
	}
	if failed := r.User.check(); failed != nil {
		return nil, nil, failed
	}
	if len(r.Rlimits) > 0 {
		spec.Rlimits = make(map[string][2]int64, len(r.Rlimits))
	}
	for name, pair := range r.Rlimits {
		if len(pair) != 2 || pair[0] < -1 || pair[1] < -1 {
			return nil, nil, invalid("rlimits are pairs of -1 or more")
		}
		spec.Rlimits[name] = [2]int64(pair)
	}
	switch {
	case len(spec.Argv) == 0:
		return nil, nil, invalid("argv is empty")
	case r.Timeout != nil && !(*r.Timeout > 0) || !(r.Grace >= 0):
		return nil, nil, invalid("timeout or grace out of range")
	case r.Detach != nil && (!isCommandName(string(*r.Detach)) || r.Stdin || r.TTY != nil):
		return nil, nil, invalid("detach is a name, without stdin and tty")
	case spec.Umask < 0 || spec.Umask > 0o777:
		return nil, nil, invalid("umask out of range")
	}
	for _, variable := range spec.Env {
		if strings.IndexByte(variable, '=') < 1 {
			return nil, nil, invalid("env holds K=V")
		}
	}
	return &r, spec, nil
}

// seconds is a duration of the protocol; what is too long to count is as good as for ever.
func seconds(s float64) time.Duration {
	return time.Duration(min(s, 1e9) * float64(time.Second))
}
