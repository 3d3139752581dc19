package main

import (
	"bytes"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// How long a process is waited for that does not die: it is in the kernel.
	killPatience = 10 * time.Second
	// How long dead processes are left unreaped while their relatives are killed.
	burstLimit = 250 * time.Millisecond
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
	end := time.Now().Add(burstLimit)
	for quiet := 0; quiet < 2 && time.Now().Before(end); {
		s.begin()
		alive := 0
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
				kill(s.children(pid))
				if s.isDead(pid) {
					dead[pid] = true
				} else {
					alive++
				}
			}
		}
		kill(roots(&s))
		quiet++
		if alive > 0 {
			quiet = 0
			runtime.Gosched()
		}
	}
}

// scan is one look at the tree of processes.
type scan struct {
	seen    map[int]bool // a tree that changes meanwhile can show a process twice
	buffer  []byte
	parents map[int][]int // children by parent, where the kernel does not list them
}

func (s *scan) begin() {
	s.seen = map[int]bool{}
	if s.buffer == nil {
		s.buffer = make([]byte, 4096)
	}
	if !hasChildrenFiles() {
		s.readParents()
	}
}

// CONFIG_PROC_CHILDREN is off in some kernels.
var hasChildrenFiles = sync.OnceValue(func() bool {
	self := strconv.Itoa(os.Getpid())
	_, err := os.Stat("/proc/self/task/" + self + "/children")
	return err == nil
})

// children lists a process's children, oldest first.
func (s *scan) children(pid int) []int {
	if s.parents != nil {
		return slices.Clone(s.parents[pid])
	}
	number := strconv.Itoa(pid)
	tasks := "/proc/" + number + "/task"
	var info syscall.Stat_t
	if syscall.Stat(tasks, &info) != nil {
		return nil
	}
	threads := []string{number}
	if info.Nlink > 3 { // two and the number of threads: most processes have one
		if folder, err := os.Open(tasks); err == nil {
			threads, _ = folder.Readdirnames(-1) // what could be read, when it ends meanwhile
			folder.Close()
		}
	}
	var found []int
	for _, thread := range threads {
		for _, field := range bytes.Fields(s.read(tasks + "/" + thread + "/children")) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				found = append(found, child)
			}
		}
	}
	return found
}

func (s *scan) readParents() {
	s.parents = map[int][]int{}
	folder, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if _, parent := s.stat(pid); parent > 0 {
				s.parents[parent] = append(s.parents[parent], pid)
			}
		}
	}
}

func (s *scan) isDead(pid int) bool {
	state, _ := s.stat(pid)
	return state == 0 || state == 'Z' || state == 'X'
}

// stat reads a process's state and parent; zeros when there is none.
func (s *scan) stat(pid int) (state byte, parent int) {
	line := s.read("/proc/" + strconv.Itoa(pid) + "/stat")
	// The name, in parentheses, may hold anything.
	fields := bytes.Fields(line[bytes.LastIndexByte(line, ')')+1:])
	if len(fields) < 2 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(string(fields[1]))
	return fields[0][0], parent
}

// read returns what could be read, until the next read.
func (s *scan) read(path string) []byte {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	length := 0
	for {
		n, err := syscall.Read(fd, s.buffer[length:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return s.buffer[:length]
		}
		if length += n; length == len(s.buffer) {
			s.buffer = append(s.buffer, make([]byte, length)...)
		}
	}
}
