package main

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
)

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
