package main

import (
	"os"
	"os/signal"
	"syscall"
	"unsafe"
)

const (
	prSetDumpable       = 4
	prCapBSetRead       = 23
	prCapBSetDrop       = 24
	prSetChildSubreaper = 36
	prCapAmbient        = 47
	prCapAmbientLower   = 3
	capSysPtrace        = 19
	capAuditWrite       = 29
	capVersion3         = 0x20080522
)

// Protect shields the agent from its own commands: no process may open its
// descriptors through /proc, and none may trace it. It makes the agent the
// adopter of what a killed shim leaves. Call it first; it changes all threads.
// The capabilities given are dropped, and so no command has them.
func Protect(without ...uintptr) error {
	if e := becomeUndumpable(); e != 0 {
		return os.NewSyscallError("prctl(PR_SET_DUMPABLE)", e)
	}
	// qemu's emulation of a single program refuses it with EINVAL. Orphans then come
	// to the agent only where it is process 1.
	if e := prctl(prSetChildSubreaper, 1); e != 0 && e != syscall.EINVAL {
		return os.NewSyscallError("prctl(PR_SET_CHILD_SUBREAPER)", e)
	}
	// Ignoring SIGPIPE would be inherited by commands; a handler is not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	for _, capability := range without {
		if err := drop(capability); err != nil {
			return err
		}
	}
	return nil
}

// drop takes a capability, of the first 32, out of the bounding set and out of the agent's own sets.
func drop(capability uintptr) error {
	if held, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, prCapBSetRead, capability, 0); e == 0 && held == 1 {
		_, _, e := syscall.AllThreadsSyscall(syscall.SYS_PRCTL, prCapBSetDrop, capability, 0)
		// EPERM: an agent that is not root cannot, and its commands hold no capability.
		if e != 0 && e != syscall.EPERM && !droppedBefore {
			return os.NewSyscallError("prctl(PR_CAPBSET_DROP)", e)
		}
	}
	// Kernels before 4.3 know no ambient set: then it holds nothing.
	syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, prCapAmbient, prCapAmbientLower, capability, 0, 0, 0)
	header := struct {
		version uint32
		pid     int32
	}{version: capVersion3}
	var sets [2]struct{ effective, permitted, inheritable uint32 }
	if _, _, e := syscall.RawSyscall(syscall.SYS_CAPGET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0); e != 0 {
		return os.NewSyscallError("capget", e)
	}
	keep := ^(uint32(1) << capability)
	sets[0].effective &= keep
	sets[0].permitted &= keep
	sets[0].inheritable &= keep
	if _, _, e := syscall.AllThreadsSyscall(syscall.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0); e != 0 && !droppedBefore {
		return os.NewSyscallError("capset", e)
	}
	return nil
}

// ignoreFatalSignals is for process 1, which the kernel shields from the signals of its own sandbox only as long as they
// have no handler; Go's runtime has one for each of these, which ends the process. Shims undo it for commands.
func ignoreFatalSignals() {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT,
		syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGTERM, syscall.SIGSTKFLT, syscall.SIGXCPU,
		syscall.SIGXFSZ, syscall.SIGIO, syscall.SIGPWR, syscall.SIGSYS)
}

func prctl(option, value uintptr) syscall.Errno {
	_, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, option, value, 0, 0, 0, 0)
	return e
}
