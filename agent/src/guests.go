package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	defaultSocket  = "/run/openrt/agent.sock"
	abstractSocket = "@openrt-agent"
	// handshakeTime is the lease of a guest that has not said HELLO yet.
	handshakeTime = 30 * time.Second
	// lastWords is how long a connection that ends waits for its client to take what is queued.
	lastWords = time.Second
	// treesTime is how long a guest's stream stays open while its commands are being killed.
	treesTime = 10 * time.Second
)

// listen opens the socket for guests: fd:N is one that the agent was started with, a leading @ an abstract name.
func listen(path string) (*os.File, error) {
	if number, inherited := strings.CutPrefix(path, "fd:"); inherited {
		return inheritSocket(number)
	}
	if strings.HasPrefix(path, "@") {
		return bindSocket(path)
	}
	socket, err := listenFile(path)
	// Only in place of the default: abstract names are shared by all that share a network.
	if err != nil && path == defaultSocket {
		return bindSocket(abstractSocket)
	}
	return socket, err
}

func inheritSocket(number string) (*os.File, error) {
	fd, err := strconv.Atoi(number)
	if err != nil || fd < 3 {
		return nil, errors.New("fd:" + number + " is no descriptor of a socket")
	}
	syscall.CloseOnExec(fd)
	listening, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil || listening == 0 {
		return nil, errors.New("fd:" + number + " is no listening socket")
	}
	return pollable(fd, "fd:"+number), nil
}

func listenFile(path string) (*os.File, error) {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(filepath.Dir(folder), 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		var stat syscall.Stat_t
		if err := syscall.Lstat(folder, &stat); err != nil {
			return nil, err
		}
		if stat.Mode != syscall.S_IFDIR|0o700 || int(stat.Uid) != os.Geteuid() {
			return nil, &os.PathError{Op: "listen", Path: folder, Err: syscall.EACCES}
		}
	}
	var stat syscall.Stat_t
	if syscall.Lstat(path, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFSOCK {
		os.Remove(path) // of an agent that was killed; the folder is ours alone
	}
	before := syscall.Umask(0o177)
	defer syscall.Umask(before)
	return bindSocket(path)
}

// newSocket does without package net, which would make the agent a third larger.
func newSocket() (int, error) {
	const kind = syscall.SOCK_STREAM | syscall.SOCK_CLOEXEC
	return syscall.Socket(syscall.AF_UNIX, kind, 0)
}

func bindSocket(path string) (*os.File, error) {
	fd, err := newSocket()
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err == nil {
		err = syscall.Listen(fd, maxConnections)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, &os.PathError{Op: "listen", Path: path, Err: err}
	}
	return pollable(fd, path), nil
}

// trusted tells whether the other end may be who it says: root or the agent's own user, in this sandbox. A process
// that has no number here is of another one, with which a host network shares abstract names; only a socket that was
// inherited is meant for such. One that a command of the agent's started could leave the command's tree by joining.
func trusted(fd int, inherited bool) bool {
	peer, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	here := err == nil && (inherited || peer.Pid > 0 && !isDescendant(int(peer.Pid)))
	return here && (peer.Uid == 0 || int(peer.Uid) == os.Geteuid())
}

// isDescendant tells whether a process comes from this agent; also when it, or one on the way to it, has gone.
func isDescendant(pid int) bool {
	s := scan{buffer: make([]byte, 4096)}
	own := os.Getpid()
	for pid != own {
		state, parent := s.stat(pid)
		if state == 0 {
			return true
		}
		if pid = parent; pid == 0 || pid == 1 && own != 1 {
			return false
		}
	}
	return true
}

// accept waits for a client that may join.
func accept(socket *os.File) (int, error) {
	inherited := strings.HasPrefix(socket.Name(), "fd:")
	raw, err := socket.SyscallConn()
	for err == nil {
		fd := -1
		var failed error
		err = raw.Read(func(listening uintptr) bool {
			fd, _, failed = syscall.Accept4(int(listening), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
			return failed != syscall.EAGAIN
		})
		switch {
		case err != nil:
		case failed != nil: // out of descriptors, or the client has gone: no reason to stop
			time.Sleep(10 * time.Millisecond)
		case !trusted(fd, inherited):
			syscall.Close(fd)
		default:
			return fd, nil
		}
	}
	return -1, err
}

// joinOwner waits for the first client on the socket; an error after the time, or when a signal comes.
func joinOwner(socket *os.File, wait time.Duration, signals <-chan os.Signal) (*os.File, error) {
	joined := make(chan struct{})
	defer close(joined)
	socket.SetReadDeadline(time.Now().Add(wait))
	go func() {
		select {
		case <-joined:
		case <-signals:
			socket.SetReadDeadline(time.Unix(1, 0))
		}
	}()
	fd, err := accept(socket)
	if err != nil {
		return nil, errors.New("no owner came")
	}
	return pollable(fd, "owner"), socket.SetReadDeadline(time.Time{})
}

// guestCount is how many guests there are; guestChange has a token when it changed.
var (
	guestCount  atomic.Int32
	guestChange = make(chan struct{}, 1)
)

func countGuest(n int32) {
	guestCount.Add(n)
	select {
	case guestChange <- struct{}{}:
	default:
	}
}

// acceptGuests serves guests until the agent exits.
func acceptGuests(socket *os.File) {
	for {
		fd, err := accept(socket)
		switch {
		case err != nil:
			return
		case guestCount.Load() >= maxConnections-1: // the owner is one
			refused := &Failure{Code: "too_many", Message: "too many connections"}
			syscall.Write(fd, appendFrame(nil, kindFatal, 0, failureJSON(refused)))
			syscall.Close(fd)
		default:
			countGuest(1)
			go func() {
				defer countGuest(-1)
				serveGuest(pollable(fd, "guest"))
			}()
		}
	}
}

// guests are the connections that end with the agent.
var guests sync.Map

func serveGuest(stream *os.File) {
	defer stream.Close()
	c := newConnection(stream, stream, false)
	guests.Store(c, nil)
	defer guests.Delete(c)
	c.lease.set(handshakeTime)
	c.serve()
	gone := make(chan struct{})
	go func() {
		c.commands.Wait()
		close(gone)
	}()
	waitFor(treesTime, gone)
	waitFor(lastWords, c.out.done)
}

// linger returns when no guest was there for so long, or when a signal comes.
func linger(most time.Duration, signals <-chan os.Signal) {
	if most <= 0 {
		return
	}
	alone := time.NewTimer(most)
	for {
		if guestCount.Load() > 0 {
			alone.Stop()
		} else {
			alone.Reset(most)
		}
		select {
		case <-guestChange:
		case <-alone.C:
			return
		case <-signals:
			return
		}
	}
}

// waitFor waits for a channel to be closed, but not longer than the time.
func waitFor(most time.Duration, c <-chan struct{}) {
	select {
	case <-c:
	case <-time.After(most):
	}
}
