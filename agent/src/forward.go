package main

import (
	"encoding/json"
	"io"
	"math"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// dialTime is how long a port of the sandbox has to take a connection.
const dialTime = 30 * time.Second

// beginForward connects to a TCP port of the sandbox's own loopback, and copies both ways.
func (op *operation) beginForward(payload []byte) {
	var request struct {
		Port   int
		Credit []int64
	}
	failed := op.setCredit(nil)
	if payload[0] != '{' {
		failed = invalid("the request is no JSON object")
	} else if err := json.Unmarshal(payload, &request); err != nil {
		failed = invalid(err.Error())
	} else if request.Port < 1 || request.Port > 65535 {
		failed = invalid("port is 1 to 65535")
	} else {
		failed = op.setCredit(request.Credit)
	}
	if failed != nil {
		op.fail(failed)
		return
	}
	op.release()
	go func() {
		err := op.forward(request.Port)
		switch {
		case isClosed(op.cancel) && err != nil:
			op.fail(errCancelled)
		case err != nil:
			op.fail(FileFailure(err))
		default:
			op.final(kindEnd, nothing)
		}
	}()
}

// forward returns nil when the other side has ended its stream.
func (op *operation) forward(port int) error {
	socket, err := op.dialLoopback(port)
	if err != nil {
		return err
	}
	defer socket.Close()
	defer op.interruptible(socket)()
	done := make(chan struct{})
	defer close(done)
	go op.feedSocket(socket, done)
	for err == nil {
		// Before it takes credit of the connection: an idle stream holds none.
		waitReadable(socket)
		_, err = op.sendPiece(math.MaxInt64, socket.Read, func() bool { return false })
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// dialLoopback tries 127.0.0.1 and, for servers that know nothing else, ::1.
func (op *operation) dialLoopback(port int) (*os.File, error) {
	socket, err := op.dialTCP(syscall.AF_INET, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	if err == syscall.ECONNREFUSED {
		var failed error
		socket, failed = op.dialTCP(syscall.AF_INET6, &syscall.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}})
		if failed == nil {
			return socket, nil
		}
		return nil, &Failure{Code: "refused", Message: "nothing listens at the port", Errno: int(syscall.ECONNREFUSED)}
	}
	return socket, err
}

func (op *operation) dialTCP(family int, to syscall.Sockaddr) (*os.File, error) {
	const kind = syscall.SOCK_STREAM | syscall.SOCK_CLOEXEC | syscall.SOCK_NONBLOCK
	fd, err := syscall.Socket(family, kind, 0)
	if err != nil {
		return nil, err
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	err = syscall.Connect(fd, to)
	if err != nil && err != syscall.EINPROGRESS {
		syscall.Close(fd)
		return nil, err
	}
	socket := pollable(fd, "forward")
	if err == nil {
		return socket, nil
	}
	socket.SetDeadline(time.Now().Add(dialTime))
	stop := op.interruptible(socket)
	err = finishConnect(socket)
	stop()
	if err == nil {
		err = socket.SetDeadline(time.Time{})
	}
	if err != nil {
		socket.Close()
		return nil, err
	}
	return socket, nil
}

func finishConnect(socket *os.File) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	failed := 0
	err = raw.Write(func(fd uintptr) bool {
		if polled(fd, pollOut) == 0 {
			return false
		}
		failed, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR) // of a socket it cannot fail
		return true
	})
	switch {
	case os.IsTimeout(err):
		return syscall.ETIMEDOUT
	case err == nil && failed != 0:
		return syscall.Errno(failed)
	}
	return err
}

// feedSocket writes STDIN to the socket, and ends that direction at its end.
func (op *operation) feedSocket(socket *os.File, done <-chan struct{}) {
	var data []byte
	var err error
	for {
		if data, err = op.nextInput(data, done); err != nil {
			break
		}
		for rest := data; len(rest) > 0 && err == nil; {
			var n int
			n, err = socket.Write(rest[:min(len(rest), defaultPipe)])
			op.tookInput(n)
			rest = rest[n:]
		}
		if err != nil {
			break
		}
	}
	if err == io.EOF {
		withFd(socket, func(fd int) { syscall.Shutdown(fd, syscall.SHUT_WR) })
		return
	}
	op.dropInput(false)
}

const (
	pollIn  = 1
	pollOut = 4
)

// polled asks which of the events a descriptor is ready for, errors and hang-ups counted.
func polled(fd uintptr, events int16) int16 {
	request := struct {
		fd              int32
		events, revents int16
	}{fd: int32(fd), events: events}
	var now syscall.Timespec
	syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&request)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return request.revents
}

// waitReadable waits until there is something to read, or the end. Read before its first writer came, a FIFO would
// seem to be at its end; poll(2) tells apart what has no writer yet and what has none any more.
func waitReadable(file *os.File) {
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	raw.Read(func(fd uintptr) bool { return polled(fd, pollIn) != 0 })
}
