package main

import (
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// How long a process is waited for that does not die: it is in the kernel.
	killPatience = 10 * time.Second
	// How long dead processes are left unreaped while their relatives are killed.
	burstLimit = 250 * time.Millisecond
	// Scans that found nothing but what had its signal before.
	staleLimit = 50
	longestNap = time.Second
)

// Signal sends a signal to the command's own process (scope 0), its group (1) or
// all descendants (2).
func (p *Program) Signal(sig syscall.Signal, scope int) *Failure {
	if scope == 2 {
		if sig == syscall.SIGKILL {
			go p.KillTree()
			return nil
		}
		return p.signalTree(sig)
	}
	select {
	case <-p.done: // the number may be another process's by now
		return failure("not_found", "signal", syscall.ESRCH)
	default:
	}
	to := p.Pid
	if scope == 1 {
		to = -to
	}
	if e := syscall.Kill(to, sig); e != nil {
		return failure("invalid", "signal", errnoOf(e))
	}
	return nil
}

// signalTree stops the shim meanwhile: what ends then stays a zombie, and its
// number is not given to another process.
func (p *Program) signalTree(sig syscall.Signal) *Failure {
	p.tree.Lock()
	defer p.tree.Unlock()
	shim := p.shimPid()
	if shim == 0 || !p.signalShim(syscall.SIGSTOP) {
		return failure("not_found", "signal", syscall.ESRCH)
	}
	defer p.signalShim(syscall.SIGCONT)
	var s scan
	s.begin()
	var walk func(pid int)
	walk = func(pid int) {
		for _, child := range s.children(pid) {
			if !s.seen[child] {
				s.seen[child] = true
				walk(child)
				_ = syscall.Kill(child, sig)
			}
		}
	}
	walk(shim)
	return nil
}

func (p *Program) shimPid() int {
	registry.Lock()
	defer registry.Unlock()
	return p.shim
}

// KillTree kills all that the command started and returns when nothing is left;
// or after a bounded time, when a process does not die, and goes on by itself.
func (p *Program) KillTree() {
	p.kill.Do(func() { go p.killUntilGone() })
	select {
	case <-p.gone:
	case <-time.After(killPatience):
	}
}

// The shim is stopped while its tree is killed: the dead keep their numbers and
// their places under a limit of processes, so that a fork bomb smothers. Its own
// end, when it goes on, proves that nothing is left.
func (p *Program) killUntilGone() {
	nap := time.Millisecond
	for {
		p.tree.Lock()
		if shim := p.shimPid(); shim != 0 && p.signalShim(syscall.SIGSTOP) {
			killBurst(func(s *scan) []int { return s.children(shim) })
			p.signalShim(syscall.SIGCONT)
		}
		p.tree.Unlock()
		select {
		case <-p.gone:
			return
		case <-time.After(nap):
		}
		nap = min(2*nap, longestNap)
	}
}

var straysLock sync.Mutex

// clearStrays kills the agent's own children that are no shims, with all below
// them, until none is left: orphans of a shim that was killed. No child is
// reaped and none started during a burst.
func clearStrays() {
	straysLock.Lock()
	defer straysLock.Unlock()
	for nap := time.Millisecond; ; nap = min(2*nap, longestNap) {
		registry.Lock()
		killBurst(ownStrays)
		registry.Unlock()
		reap()
		registry.Lock()
		var s scan
		s.begin()
		left := len(ownStrays(&s))
		registry.Unlock()
		if left == 0 {
			return
		}
		time.Sleep(nap)
	}
}

func ownStrays(s *scan) []int {
	return slices.DeleteFunc(s.children(os.Getpid()), func(pid int) bool { return registry.shims[pid] != nil })
}

// KillEverything ends every program, and as process 1 everything in the sandbox.
// No program can be started any more.
func KillEverything() {
	registry.Lock()
	registry.closing = true
	programs := make([]*Program, 0, len(registry.shims))
	for _, p := range registry.shims {
		programs = append(programs, p)
	}
	registry.Unlock()
	if os.Getpid() == 1 {
		for end := time.Now().Add(killPatience); time.Now().Before(end); time.Sleep(time.Millisecond) {
			_ = syscall.Kill(-1, syscall.SIGKILL) // reaches all but the agent, in one step
			if _, left := reap(); !left {
				return
			}
		}
		return
	}
	var all sync.WaitGroup
	for _, p := range programs {
		all.Add(1)
		go func() { defer all.Done(); p.KillTree() }()
	}
	all.Wait()
	cleared := make(chan struct{})
	go func() { clearStrays(); close(cleared) }()
	select {
	case <-cleared:
	case <-time.After(killPatience):
	}
}

// killBurst kills below the roots, the newest first, until two scans in a row
// find nothing alive or the time is over.
func killBurst(roots func(*scan) []int) {
	var s scan
	dead := map[int]bool{} // zombies: nobody reaps them meanwhile, so they stay known
	known := map[int]bool{}
	end := time.Now().Add(burstLimit)
	for quiet, stale := 0, 0; quiet < 2 && stale < staleLimit && time.Now().Before(end); {
		s.begin()
		alive, fresh := 0, false
		var kill func(pids []int)
		kill = func(pids []int) {
			for _, pid := range slices.Backward(pids) {
				if !dead[pid] {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			for _, pid := range slices.Backward(pids) {
				if dead[pid] || s.seen[pid] {
					continue
				}
				s.seen[pid] = true
				fresh = fresh || !known[pid]
				known[pid] = true
				kill(s.children(pid))
				if s.isDead(pid) {
					dead[pid] = true
				} else {
					alive++
				}
			}
		}
		kill(roots(&s))
		quiet, stale = quiet+1, stale+1
		if alive > 0 {
			quiet = 0
		}
		if fresh {
			stale = 0
		} else if alive > 0 {
			time.Sleep(100 * time.Microsecond) // to die, they need the processor too
		}
	}
}
