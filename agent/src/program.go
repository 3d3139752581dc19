package main

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Program is a command and all that it started. The files are the agent's ends;
// whoever started the program closes them. Reading a terminal's master fails
// with EIO when its last user has gone.
type Program struct {
	Pid                   int
	Stdin, Stdout, Stderr *os.File
	GivenUp               bool // it was killed while it started: Waiting said so

	tty        bool
	launch     *launch  // for the shim, which reads it until it is gone
	status     *os.File // read end of the status pipe
	done, gone chan struct{}
	outcome    Outcome // valid when done is closed
	kill       sync.Once
	tree       sync.Mutex // held by who has stopped the shim

	// Held by registry's lock.
	shim    int // 0: reaped, the number may be another's
	killing bool
	shimEnd chan syscall.WaitStatus
	adopted Outcome // of the command when its shim was killed
}

// Done is closed when the command's own process has ended.
func (p *Program) Done() <-chan struct{} { return p.done }

// Outcome is valid when Done is closed.
func (p *Program) Outcome() Outcome { return p.outcome }

// Gone is closed, after Done, when no descendant is left.
func (p *Program) Gone() <-chan struct{} { return p.gone }

// StartProgram runs a command under a shim. It returns when the command's exec
// has succeeded or failed.
func StartProgram(spec *Spec) (*Program, *Failure) {
	l, owner, fail := prepare(spec)
	if fail != nil {
		return nil, fail
	}
	p := &Program{
		tty:     spec.TTY != nil,
		launch:  l,
		done:    make(chan struct{}),
		gone:    make(chan struct{}),
		shimEnd: make(chan syscall.WaitStatus, 1),
		adopted: Outcome{ExitCode: -1, Signal: int(syscall.SIGKILL)},
	}
	theirs, err := p.openFiles(spec, owner)
	if err == nil {
		err = p.spawn()
	}
	for _, fd := range theirs {
		syscall.Close(fd)
	}
	if err != nil {
		p.closeFiles()
		if p.status != nil {
			p.status.Close()
		}
		return nil, &Failure{Code: "start", Message: err.Error(), Errno: int(errnoOf(err))}
	}
	first, ok := p.firstRecord(spec.Waiting)
	started := ok && first.kind == recordStarted
	if started {
		p.Pid = int(first.pid)
		registry.Lock()
		registry.commands[p.Pid] = p
		registry.Unlock()
	}
	go p.watch(started)
	if started {
		// The command has its own copy now; only the rest is the shim's until its end.
		l.programs, l.argv, l.envp, l.cwd, l.limits, l.groups = nil, nil, nil, nil, nil, nil
		return p, nil
	}
	p.closeFiles()
	if !ok {
		return nil, failure("start", "the shim was killed", syscall.ECHILD)
	}
	return nil, stageFailure(spec, first.stage, syscall.Errno(first.value))
}

func stageFailure(spec *Spec, stage int32, e syscall.Errno) *Failure {
	switch stage {
	case stageFork:
		return failure("start", "fork", e)
	case stageTerminal:
		return failure("start", "controlling terminal", e)
	case stageLimits:
		return failure("start", "setrlimit", e)
	case stageUser:
		return failure("user", "change of user", e)
	case stageCwd:
		return failure("cwd", spec.Cwd, e)
	}
	return startFailure(spec.Argv[0], e)
}

// nullFd is opened once, before a command can put another thing in its place.
// Where there is no /dev/null, input is empty and output fails.
var nullFd = sync.OnceValue(func() int {
	fd, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err == nil {
		return fd
	}
	var pipe [2]int
	if syscall.Pipe2(pipe[:], syscall.O_CLOEXEC) != nil {
		return -1
	}
	syscall.Close(pipe[1])
	return pipe[0]
})

// openFiles fills in the three files and the status pipe, and returns the
// descriptors that only the command needs.
func (p *Program) openFiles(spec *Spec, owner *Identity) (theirs []int, err error) {
	l := p.launch
	pipe := func(child int, name string) (file *os.File, fd int) {
		var ends [2]int
		if err != nil {
			return nil, -1
		}
		if e := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); e != nil {
			err = os.NewSyscallError("pipe", e)
			return nil, -1
		}
		theirs = append(theirs, ends[child])
		return pollable(ends[1-child], name), ends[child]
	}
	p.status, l.status = pipe(1, "status")
	if err != nil {
		return theirs, err
	}
	if spec.TTY != nil {
		master, slave, e := openTerminal(spec.TTY, owner)
		if e != nil {
			return theirs, e
		}
		theirs = append(theirs, slave)
		l.stdio = [3]int{slave, slave, slave}
		p.Stdout = pollable(master, "terminal")
		copied, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(master), syscall.F_DUPFD_CLOEXEC, 3)
		if errno != 0 {
			return theirs, os.NewSyscallError("dup", errno)
		}
		p.Stdin = pollable(int(copied), "terminal")
		return theirs, nil
	}
	l.stdio[0] = nullFd()
	if spec.Stdin {
		p.Stdin, l.stdio[0] = pipe(0, "stdin")
	}
	p.Stdout, l.stdio[1] = pipe(1, "stdout")
	l.stdio[2] = l.stdio[1]
	if !spec.Merge {
		p.Stderr, l.stdio[2] = pipe(1, "stderr")
	}
	return theirs, err
}

// pollable gives a descriptor to the runtime's poller: reading from it parks a
// goroutine and holds no thread.
func pollable(fd int, name string) *os.File {
	// It cannot fail for a descriptor that was just opened.
	_ = syscall.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), name)
}

func (p *Program) closeFiles() {
	for _, f := range []*os.File{p.Stdin, p.Stdout, p.Stderr} {
		if f != nil {
			f.Close()
		}
	}
}

// spawn clones the shim and registers it in one step: the reaper and the hunt
// for strays never see a child that they do not know.
func (p *Program) spawn() error {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	registry.Lock()
	defer registry.Unlock()
	if registry.closing {
		return os.NewSyscallError("the agent ends", syscall.ESHUTDOWN)
	}
	if !hasCloseRange() {
		p.launch.lastFd = highestFd()
	}
	pid := int(spawnShim(p.launch))
	if pid < 0 {
		return os.NewSyscallError("clone", syscall.Errno(-pid))
	}
	p.shim = pid
	registry.shims[pid] = p
	return nil
}

var hasCloseRange = sync.OnceValue(func() bool {
	// A range in which no descriptor can be. Old kernels say ENOSYS, old seccomp
	// filters EPERM.
	_, _, e := syscall.RawSyscall(sysCloseRange, 1<<30, 1<<30, 0)
	return e == 0
})

func highestFd() int {
	highest := 1023
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		if fd, _, ok := twoIds(entry.Name(), "0"); ok {
			highest = max(highest, int(fd))
		}
	}
	return highest
}

// readRecord is not ok when the shim ended without another word.
func (p *Program) readRecord() (record, bool) {
	r, err := p.read()
	return r, err == nil
}

func (p *Program) read() (r record, err error) {
	_, err = io.ReadFull(p.status, unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)))
	return r, err
}

// startPatience is how long a start may take before it is looked after.
const startPatience = 50 * time.Millisecond

// firstRecord waits until the command runs or could not be run. Between its change of user and its exec another process
// of that user can stop it, and the shim waits with it: it is made to go on, or killed when it is given up.
func (p *Program) firstRecord(waiting func() bool) (record, bool) {
	for {
		p.status.SetReadDeadline(time.Now().Add(startPatience))
		first, err := p.read()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			p.status.SetReadDeadline(time.Time{})
			return first, err == nil
		}
		if !p.GivenUp && waiting != nil && waiting() {
			p.GivenUp = true
			go p.KillTree()
		}
		if !p.GivenUp {
			p.resume()
		}
	}
}

// resume lets a command go on that was stopped before its exec.
func (p *Program) resume() {
	registry.Lock()
	defer registry.Unlock()
	if p.shim == 0 {
		return
	}
	var s scan
	s.begin()
	for _, child := range s.children(p.shim) {
		_ = syscall.Kill(child, syscall.SIGCONT)
	}
}

// watch waits for the end of the command and for that of its shim.
func (p *Program) watch(started bool) {
	told := !started
	if started {
		var last record
		if last, told = p.readRecord(); told {
			wall := time.Duration(last.over.Nano() - last.started.Nano())
			p.outcome = newOutcome(syscall.WaitStatus(last.value), &last.usage, wall)
			close(p.done)
		}
	}
	end := <-p.shimEnd
	p.status.Close()
	if !end.Exited() || end.ExitStatus() != 0 || !told {
		// The shim was killed, and what was below it is the agent's now.
		clearStrays()
	}
	registry.Lock()
	if registry.commands[p.Pid] == p {
		delete(registry.commands, p.Pid)
	}
	registry.Unlock()
	if !told {
		p.outcome = p.adopted
		close(p.done)
	}
	p.launch = nil
	close(p.gone)
}
