package main

import (
	"syscall"
	"unsafe"
)

// A shim is the parent of one command and the subreaper of all that the command
// starts: orphans come to it, so it ends only when no descendant is left.
//
// It shares the agent's memory (CLONE_VM without CLONE_THREAD), which costs no
// copy of page tables. It is no thread of the Go runtime: runShim and runCommand
// run on stacks of their own inside a launch, with all signals blocked, and may
// only make raw system calls. No allocation, no write of a pointer, no call of
// anything that is not nosplit.

const (
	sysCloseRange = 436
	statusFd      = 3 // of the shim
	waitAll       = 0x40000000
	sigSetMask    = 2
	sigSetSize    = 8
	lastSignal    = 64
	stackSize     = 2048 // a nosplit chain of Go needs 800 bytes at most
)

// What the shim was doing when it failed.
const (
	stageNone = iota
	stageFork
	stageTerminal
	stageLimits
	stageUser
	stageCwd
	stageExec
)

const (
	recordStarted = iota + 1
	recordFailed
	recordEnded
)

// record is what a shim writes to its status pipe: one when the command runs or
// could not be run, one when the command's own process has ended.
type record struct {
	kind, pid     int32
	stage, value  int32 // value: errno of a failure, wait status of an end
	started, over syscall.Timespec
	usage         syscall.Rusage
}

// launch is all that the shim and the command read before exec. The Program
// holds it until the shim is gone, so the collector leaves it in place.
type launch struct {
	programs   []*byte // files to try, in order
	argv, envp []*byte // ended by nil
	cwd        *byte
	limits     []limitCall
	groups     []uint32
	uid, gid   uint32
	switchUser bool
	terminal   bool
	umask      int
	stdio      [3]int
	status     int // write end of the status pipe
	lastFd     int // 0: the kernel has close_range
	record     record
	forked     bool     // the shim could only be made as a copy of the agent
	execPipe   [2]int32 // then: by which the shim learns how the exec went

	everySignal, noSignal, oldSignals uint64
	defaultAction                     [4]uint64

	shimStack, commandStack [stackSize / 8]uint64
}

// clone makes a process that runs runShim (command 0) or runCommand (1) on the
// given stack. It returns the pid, or an errno as a negative number.
func clone(flags, stack uintptr, l *launch, command uintptr) (pid uintptr)

// spawnShim starts the shim. Signals are blocked around it, so that no handler
// of the Go runtime can run in the child.
//
//go:nosplit
//go:norace
func spawnShim(l *launch) uintptr {
	l.everySignal = ^uint64(0)
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask,
		uintptr(unsafe.Pointer(&l.everySignal)), uintptr(unsafe.Pointer(&l.oldSignals)), sigSetSize, 0, 0)
	now(&l.record.started) // before, for a short command is over when clone returns
	pid := clone(sharedMemory|uintptr(syscall.SIGCHLD), stackTop(&l.shimStack), l, 0)
	if -int(pid) == int(syscall.EINVAL) {
		// qemu's emulation of a single program, by which engines run images of
		// another architecture, knows threads and copies only.
		l.forked = true
		pid = clone(uintptr(syscall.SIGCHLD), stackTop(&l.shimStack), l, 0)
	}
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask,
		uintptr(unsafe.Pointer(&l.oldSignals)), 0, sigSetSize, 0, 0)
	return pid
}

//go:nosplit
//go:norace
func stackTop(stack *[stackSize / 8]uint64) uintptr {
	// 64 bytes for the call out of clone; arm64 wants a multiple of 16.
	return (uintptr(unsafe.Pointer(stack)) + stackSize - 64) &^ 15
}

//go:nosplit
//go:norace
func runShim(l *launch) {
	// No session of its own: with autogroups the scheduler would count it as another
	// job, and on a busy machine it would get its turn milliseconds later. Nothing
	// that is sent to the agent's group but SIGKILL and SIGSTOP reaches it.
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
	for n := uintptr(1); n <= lastSignal; n++ {
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, n, uintptr(unsafe.Pointer(&l.defaultAction)), 0, sigSetSize, 0, 0)
	}
	// The sources are above 2, since the agent's own stdio is open. Everything
	// else goes before the command exists: an exec that hangs must not hold the
	// pipes of other commands open.
	syscall.RawSyscall(syscall.SYS_DUP3, uintptr(l.stdio[0]), 0, 0)
	syscall.RawSyscall(syscall.SYS_DUP3, uintptr(l.stdio[1]), 1, 0)
	syscall.RawSyscall(syscall.SYS_DUP3, uintptr(l.stdio[2]), 2, 0)
	if l.status != statusFd {
		syscall.RawSyscall(syscall.SYS_DUP3, uintptr(l.status), statusFd, syscall.O_CLOEXEC)
	}
	closeFds(statusFd+1, l.lastFd)
	if l.forked {
		syscall.RawSyscall(syscall.SYS_PIPE2, uintptr(unsafe.Pointer(&l.execPipe)), syscall.O_CLOEXEC, 0)
	}
	pid := clone(syscall.CLONE_VM|syscall.CLONE_VFORK|uintptr(syscall.SIGCHLD), stackTop(&l.commandStack), l, 1)
	if l.forked {
		// It ends empty at the exec.
		syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(l.execPipe[1]), 0, 0)
		syscall.RawSyscall(syscall.SYS_READ, uintptr(l.execPipe[0]), uintptr(unsafe.Pointer(&l.record)), unsafe.Sizeof(l.record))
		syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(l.execPipe[0]), 0, 0)
	}
	closeFds(0, 2)
	l.record.pid = int32(pid)
	switch {
	case int(pid) < 0:
		l.record.kind, l.record.stage, l.record.value = recordFailed, stageFork, -int32(pid)
	case l.record.stage != stageNone: // told by the command's process, in the shared memory
		l.record.kind = recordFailed
	default:
		l.record.kind = recordStarted
	}
	report(l)
	for {
		got, _, e := syscall.RawSyscall6(syscall.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&l.record.value)),
			waitAll, uintptr(unsafe.Pointer(&l.record.usage)), 0, 0)
		if e == syscall.ECHILD {
			break
		}
		if e == 0 && got == pid && l.record.kind == recordStarted {
			now(&l.record.over)
			l.record.kind = recordEnded
			report(l)
		}
	}
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// runCommand runs in the command's own process until it execs.
//
//go:nosplit
//go:norace
func runCommand(l *launch) {
	var e syscall.Errno
	stage := int32(stageTerminal)
	syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0)
	if l.terminal {
		if _, _, e = syscall.RawSyscall(syscall.SYS_IOCTL, 0, syscall.TIOCSCTTY, 0); e != 0 {
			goto failed
		}
	}
	syscall.RawSyscall(syscall.SYS_UMASK, uintptr(l.umask), 0, 0)
	stage = stageLimits
	for i := range l.limits {
		if _, _, e = syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, l.limits[i].resource,
			uintptr(unsafe.Pointer(&l.limits[i].value)), 0, 0, 0); e != 0 {
			goto failed
		}
	}
	if l.switchUser {
		stage = stageUser
		if _, _, e = syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(l.groups)),
			uintptr(unsafe.Pointer(unsafe.SliceData(l.groups))), 0); e != 0 {
			goto failed
		}
		if _, _, e = syscall.RawSyscall(syscall.SYS_SETRESGID, uintptr(l.gid), uintptr(l.gid), uintptr(l.gid)); e != 0 {
			goto failed
		}
		if _, _, e = syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(l.uid), uintptr(l.uid), uintptr(l.uid)); e != 0 {
			goto failed
		}
		// With fs.suid_dumpable=1 the change of user made the shared memory, which is
		// the agent's, dumpable. exec gives the command a flag of its own.
		syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0)
	}
	stage = stageCwd
	if _, _, e = syscall.RawSyscall(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(l.cwd)), 0, 0); e != 0 {
		goto failed
	}
	stage = stageExec
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetMask, uintptr(unsafe.Pointer(&l.noSignal)), 0, sigSetSize, 0, 0)
	for _, program := range l.programs {
		_, _, tried := syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(program)),
			uintptr(unsafe.Pointer(unsafe.SliceData(l.argv))), uintptr(unsafe.Pointer(unsafe.SliceData(l.envp))))
		// As execvp(3): go on along PATH, and tell of a file that may not be run
		// rather than of those that are not there.
		if e != syscall.EACCES {
			e = tried
		}
		if tried != syscall.ENOENT && tried != syscall.ENOTDIR && tried != syscall.EACCES {
			e = tried
			break
		}
	}
failed:
	l.record.stage, l.record.value = stage, int32(e)
	if l.forked {
		syscall.RawSyscall(syscall.SYS_WRITE, uintptr(l.execPipe[1]), uintptr(unsafe.Pointer(&l.record)), unsafe.Sizeof(l.record))
	}
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 127, 0, 0)
	}
}

//go:nosplit
//go:norace
func report(l *launch) {
	syscall.RawSyscall(syscall.SYS_WRITE, statusFd, uintptr(unsafe.Pointer(&l.record)), unsafe.Sizeof(l.record))
}

//go:nosplit
//go:norace
func now(t *syscall.Timespec) {
	const clockMonotonic = 1
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(t)), 0)
}

// closeFds closes first to last; last 0 is "all", where the kernel has close_range.
//
//go:nosplit
//go:norace
func closeFds(first, last int) {
	if last == 0 {
		syscall.RawSyscall(sysCloseRange, uintptr(first), 0xffffffff, 0)
		return
	}
	for fd := first; fd <= last; fd++ {
		syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0)
	}
}
