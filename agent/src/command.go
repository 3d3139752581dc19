package main

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// forks bounds how many commands are being forked at once: more would only take the processors from each other.
var forks = make(chan struct{}, 2*runtime.NumCPU())

// command is one START from its request to the end of the last process it left behind.
type command struct {
	op       *operation
	spec     *Spec
	user     *userRequest
	timeout  time.Duration // 0: none
	grace    time.Duration
	program  *Program
	limit    *time.Timer
	cancel   <-chan struct{} // op.cancel until it was heeded
	ended    <-chan struct{} // op.ended, likewise
	exited   chan struct{}   // closed when the command has exited: what lies in the pipes now is the last of its output
	drained  chan struct{}   // closed when that was sent
	pumping  atomic.Int32
	ending   bool // its whole tree is to go
	killing  bool // the next strike is SIGKILL
	killed   bool
	timedOut bool
}

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

func (op *operation) beginCommand(payload []byte) {
	request, spec, failed := decodeStart(payload)
	if failed == nil {
		failed = op.setCredit(request.Credit)
	}
	if failed != nil {
		op.fail(failed)
		return
	}
	cmd := &command{op: op, spec: spec, user: request.User, cancel: op.cancel, ended: op.ended, grace: seconds(request.Grace),
		exited: make(chan struct{}), drained: make(chan struct{})}
	if request.Timeout != nil {
		cmd.timeout = max(seconds(*request.Timeout), 1)
	}
	if !spec.Stdin && spec.TTY == nil {
		op.dropInput(false)
	}
	op.commands.Add(1)
	go cmd.run()
}

func (cmd *command) run() {
	defer cmd.op.commands.Done()
	program, failed := cmd.start()
	if failed != nil {
		cmd.op.fail(failed)
		return
	}
	cmd.program = program
	cmd.op.release()
	cmd.spec = nil
	var pid [4]byte
	binary.BigEndian.PutUint32(pid[:], uint32(program.Pid))
	cmd.op.out.started(cmd.op.id, pid[:])
	cmd.startLimit()
	cmd.startPumps()
	cmd.until(program.Done())
	if cmd.ending {
		cmd.until(program.Gone())
	}
	cmd.finishOutput()
	cmd.until(cmd.drained)
	cmd.op.final(kindExited, cmd.exitedJSON())
	// What it left in the background lives on, and is still this command's.
	cmd.until(program.Gone())
	cmd.limit.Stop()
	cmd.closeFiles()
}

func (cmd *command) start() (*Program, *Failure) {
	select {
	case forks <- struct{}{}:
		defer func() { <-forks }()
	case <-cmd.op.cancel:
	case <-cmd.op.ended:
	}
	if isClosed(cmd.op.cancel) || isClosed(cmd.op.ended) {
		return nil, errCancelled
	}
	cmd.spec.User = cmd.user.spec()
	return StartProgram(cmd.spec)
}

func (cmd *command) startPumps() {
	p := cmd.program
	cmd.pumping.Store(1) // this function, so that drained is closed once even when there is no output
	if p.Stdout != nil {
		cmd.pumping.Add(1)
		go (&pump{cmd: cmd, stream: 1, file: p.Stdout, left: -1}).run()
	}
	if p.Stderr != nil {
		cmd.pumping.Add(1)
		go (&pump{cmd: cmd, stream: 2, file: p.Stderr, left: -1}).run()
	}
	if p.Stdin != nil {
		go cmd.feed()
	}
	cmd.pumped()
}

func (cmd *command) pumped() {
	if cmd.pumping.Add(-1) == 0 {
		close(cmd.drained)
	}
}

// finishOutput lets the pumps send what lies in the pipes, and no more.
func (cmd *command) finishOutput() {
	for _, f := range []*os.File{cmd.program.Stdout, cmd.program.Stderr} {
		f.SetReadDeadline(time.Unix(1, 0)) // a nil file answers with an error
	}
	close(cmd.exited)
	cmd.program.Stdin.Close()
}

func (cmd *command) closeFiles() {
	cmd.program.Stdout.Close()
	cmd.program.Stderr.Close()
}

// feed writes STDIN to the command.
func (cmd *command) feed() {
	op, to := cmd.op, cmd.program.Stdin
	var data []byte
	var err error
	last, grown := byte('\n'), false
	for {
		if data, err = op.nextInput(data, cmd.exited); err != nil {
			break
		}
		if len(data) > defaultPipe && !grown {
			withFd(to, growPipe)
			grown = true
		}
		last = data[len(data)-1]
		for rest := data; len(rest) > 0 && err == nil; {
			var n int
			n, err = to.Write(rest[:min(len(rest), 2*defaultPipe)])
			op.tookInput(n)
			rest = rest[n:]
		}
		if err != nil {
			break
		}
	}
	switch {
	case err != io.EOF:
		op.dropInput(false)
		to.Close()
	case !cmd.program.tty:
		to.Close()
	case last == '\n':
		to.Write([]byte{4}) // a terminal has no other end of file than its own character
	default:
		to.Write([]byte{4, 4}) // the first one only ends the line
	}
}

func (cmd *command) exitedJSON() []byte {
	o := cmd.program.Outcome()
	b := make([]byte, 0, 224)
	number := func(key string, n int64) { b = strconv.AppendInt(append(b, key...), n, 10) }
	flag := func(key string, v bool) { b = strconv.AppendBool(append(b, key...), v) }
	duration := func(key string, d time.Duration) {
		b = strconv.AppendFloat(append(b, key...), d.Seconds(), 'f', 6, 64)
	}
	if o.Signal > 0 {
		number(`{"exit_code":null,"signal":`, int64(o.Signal))
	} else {
		number(`{"signal":null,"exit_code":`, int64(o.ExitCode))
	}
	flag(`,"core":`, o.Core)
	flag(`,"timed_out":`, cmd.timedOut)
	flag(`,"killed":`, cmd.killed)
	duration(`,"wall":`, o.Wall)
	duration(`,"user":`, o.User)
	duration(`,"system":`, o.System)
	number(`,"max_rss":`, o.MaxRSS)
	return append(b, '}')
}
