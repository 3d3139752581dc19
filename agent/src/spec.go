package main

import (
	"syscall"
	"time"
)

// Spec says what to run and how. Strings hold the exact bytes of the client.
type Spec struct {
	Argv     []string
	Env      []string // K=V, added over the agent's own environment; later ones win
	ClearEnv bool
	Cwd      string // "" is "/"
	MakeCwd  bool
	User     *UserSpec // nil: the agent's own
	Stdin    bool      // a pipe; else /dev/null
	TTY      *TTYSpec
	Merge    bool // stderr goes where stdout goes
	Umask    int
	Rlimits  map[string][2]int64  // soft, hard; -1 is unlimited
	Waiting  func() (giveUp bool) // nil, or asked again and again while the start takes long
}

// UserSpec names a user, by name when Name is not empty.
type UserSpec struct {
	Name     string
	Uid, Gid uint32
	Groups   []uint32
}

// TTYSpec asks for a pseudo terminal.
type TTYSpec struct {
	Rows, Cols uint16
	Term       string
}

// Identity is a user as the kernel and the environment need it. Name is empty
// when the uid has no line in the passwd file.
type Identity struct {
	Uid, Gid   uint32
	Groups     []uint32
	Name, Home string
}

// Failure is an error as the protocol tells it.
type Failure struct {
	Code, Message string
	Errno         int
}

func (f *Failure) Error() string { return f.Code + ": " + f.Message }

// Outcome says how a command's own process ended. ExitCode is -1 when Signal is
// not 0. MaxRSS is in bytes; its floor is the agent's own peak, since the kernel
// counts the memory that the command shared with the agent before its exec.
type Outcome struct {
	ExitCode, Signal int
	Core             bool
	User, System     time.Duration
	MaxRSS           int64
	Wall             time.Duration
}

func newOutcome(status syscall.WaitStatus, usage *syscall.Rusage, wall time.Duration) Outcome {
	o := Outcome{
		ExitCode: -1,
		User:     time.Duration(usage.Utime.Nano()),
		System:   time.Duration(usage.Stime.Nano()),
		MaxRSS:   usage.Maxrss * 1024,
		Wall:     wall,
	}
	if status.Signaled() {
		o.Signal, o.Core = int(status.Signal()), status.CoreDump()
	} else {
		o.ExitCode = status.ExitStatus()
	}
	return o
}
