package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// registry knows the agent's children. Its lock is held while a child is made,
// while one is reaped and while one is signalled: so no number is used for a
// process that it does not belong to any more.
var registry = struct {
	sync.Mutex
	shims    map[int]*Program
	commands map[int]*Program
	closing  bool
}{shims: map[int]*Program{}, commands: map[int]*Program{}}

// StartReaper starts the one goroutine that waits for all children of the agent.
// Nothing else in the agent may wait for a process.
func StartReaper() {
	// It coalesces: one pending signal stands for any number of children.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		for range ended {
			// One that is at work goes on until none is left.
			if strays, _ := reap(); strays && straysLock.TryLock() {
				straysLock.Unlock()
				go clearStrays()
			}
		}
	}()
}

// reap takes every child that has ended. strays: there was one that is neither
// a shim nor the command of a killed shim; more may live. left: children remain.
func reap() (strays, left bool) {
	registry.Lock()
	defer registry.Unlock()
	for {
		var status syscall.WaitStatus
		var usage syscall.Rusage
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG|syscall.WUNTRACED|waitAll, &usage)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid == 0 {
			return strays, err == nil
		}
		shim, command := registry.shims[pid], registry.commands[pid]
		switch {
		case status.Stopped():
			// A command may stop its shim, and nobody would learn of its end.
			if shim != nil && !shim.killing {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		case shim != nil:
			delete(registry.shims, pid)
			shim.shim = 0
			shim.shimEnd <- status
		case command != nil:
			command.adopted = newOutcome(status, &usage, 0)
		default:
			strays = true
		}
	}
}

// signalShim is false when the shim has been reaped.
func (p *Program) signalShim(sig syscall.Signal) bool {
	registry.Lock()
	defer registry.Unlock()
	p.killing = sig == syscall.SIGSTOP
	return p.shim != 0 && syscall.Kill(p.shim, sig) == nil
}
