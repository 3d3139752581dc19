package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// disk bounds how many threads wait for file systems at once; each such call holds a thread.
var disk = make(chan struct{}, 32)

// fileWork counts the operations that may have a temporary file to remove before the agent exits.
var fileWork sync.WaitGroup

type fileRequest struct {
	Op          string
	Path        byteString
	To          byteString
	User        *userRequest
	Credit      []int64
	Offset      int64
	Length      *int64
	Mode        *uint32
	Append      bool
	MakeParents *bool `json:"make_parents"`
	Exclusive   bool
	Follow      *bool
	Parents     *bool
	ExistOK     *bool `json:"exist_ok"`
	Recursive   bool
}

// fileOperation is one FILE.
type fileOperation struct {
	*operation
	fileRequest
	identity *Identity // nil: the agent's own
}

// yes is the value of an option that is true unless it is given.
func yes(option *bool) bool { return option == nil || *option }

func decodeFile(payload []byte) (*fileRequest, *Failure) {
	var r fileRequest
	if payload[0] != '{' {
		return nil, invalid("the request is no JSON object")
	}
	if err := json.Unmarshal(payload, &r); err != nil {
		return nil, invalid(err.Error())
	}
	switch {
	case !strings.HasPrefix(string(r.Path), "/"), r.Op == "rename" && !strings.HasPrefix(string(r.To), "/"):
		return nil, invalid("paths are absolute")
	case r.Offset < 0 || r.Length != nil && *r.Length < 0:
		return nil, invalid("offset or length out of range")
	case r.Mode != nil && *r.Mode > 0o7777:
		return nil, invalid("mode out of range")
	}
	return &r, nil
}

func (op *operation) beginFile(payload []byte) {
	request, failed := decodeFile(payload)
	if failed == nil {
		failed = op.setCredit(request.Credit)
	}
	if failed == nil {
		failed = request.User.check()
	}
	if failed != nil {
		op.fail(failed)
		return
	}
	f := &fileOperation{operation: op, fileRequest: *request}
	if request.Op != "write" {
		op.dropInput(false)
	}
	fileWork.Add(1)
	go func() {
		defer fileWork.Done()
		result, err := f.run()
		if err != nil {
			op.fail(FileFailure(err))
			return
		}
		op.final(kindEnd, result)
	}()
}

func (f *fileOperation) run() ([]byte, error) {
	if user := f.User.spec(); user != nil {
		identity, failed := LookupUser(user)
		if failed != nil {
			return nil, failed
		}
		f.identity = &identity
	}
	switch f.Op {
	case "read":
		return f.read()
	case "write":
		return f.write()
	case "list":
		return f.list()
	case "stat":
		return f.stat()
	case "mkdir":
		return nothing, f.do(f.mkdir)
	case "remove":
		return nothing, f.do(f.remove)
	case "rename":
		return nothing, f.do(func() error { return syscall.Rename(string(f.Path), string(f.To)) })
	}
	return nil, invalid("unknown op")
}

var nothing = []byte("{}")

func sizeJSON(key string, n int64) []byte {
	return strconv.AppendInt([]byte(`{"`+key+`":`), n, 10)
}

// given tells whether the operation was given up.
func (f *fileOperation) given() bool { return isClosed(f.cancel) || isClosed(f.ended) }

// on runs work that may wait for a file system, on one of the threads that may.
func (f *fileOperation) on(work func() error) error {
	select {
	case disk <- struct{}{}:
		defer func() { <-disk }()
	case <-f.cancel:
	case <-f.ended:
	}
	if f.given() {
		return errCancelled
	}
	return work()
}

// do runs work with the rights of the user.
func (f *fileOperation) do(work func() error) error {
	return f.on(func() error { return AsUser(f.identity, work) })
}

// open opens without waiting for the other side of a FIFO or a device.
func (f *fileOperation) open(path string, flags int, mode uint32) (*os.File, *syscall.Stat_t, error) {
	var stat syscall.Stat_t
	fd := -1
	err := f.do(func() (err error) {
		for {
			fd, err = syscall.Open(path, flags|syscall.O_CLOEXEC|syscall.O_NONBLOCK|syscall.O_NOCTTY, mode)
			if err != syscall.EINTR {
				return err
			}
		}
	})
	if err == nil {
		if err = syscall.Fstat(fd, &stat); err == nil {
			err = notTheAgents(fd)
		}
		if err != nil {
			syscall.Close(fd)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), ""), &stat, nil
}

func isRegular(stat *syscall.Stat_t) bool { return stat.Mode&syscall.S_IFMT == syscall.S_IFREG }

// interruptible makes waits for file end when the operation is given up, until the returned function is called.
func (op *operation) interruptible(file *os.File) func() {
	done := make(chan struct{})
	go func() {
		select {
		case <-op.cancel:
		case <-op.ended:
		case <-done:
			return
		}
		file.SetDeadline(time.Unix(1, 0))
	}()
	return func() { close(done) }
}

func (f *fileOperation) read() ([]byte, error) {
	file, stat, err := f.open(string(f.Path), syscall.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if stat.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		return nil, syscall.EISDIR
	}
	defer f.interruptible(file)()
	if f.Offset > 0 {
		if _, err := file.Seek(f.Offset, io.SeekStart); err != nil {
			return nil, err
		}
	}
	left := int64(1<<63 - 1)
	if f.Length != nil {
		left = *f.Length
	}
	sent := int64(0)
	for sent < left && err == nil {
		var n int
		if stat.Mode&syscall.S_IFMT == syscall.S_IFIFO {
			waitReadable(file) // before it takes credit of the connection: who waits holds none
		}
		n, err = f.sendPiece(left-sent, func(p []byte) (int, error) { return f.readPiece(file, stat, p) }, func() bool {
			return isRegular(stat) && atEnd(file, f.Offset+sent)
		})
		sent += int64(n)
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	return append(sizeJSON("size", sent), '}'), nil
}

// readPiece reads on a thread that may wait; what the runtime can poll (a FIFO) needs none while it waits.
func (f *fileOperation) readPiece(file *os.File, stat *syscall.Stat_t, p []byte) (n int, err error) {
	if stat.Mode&syscall.S_IFMT == syscall.S_IFIFO {
		n, err = file.Read(p)
	} else {
		err = f.on(func() (err error) { n, err = file.Read(p); return err })
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errCancelled
	}
	return n, err
}

// atEnd finds the end of a file for a client that gave credit for just its size.
func atEnd(file *os.File, offset int64) bool {
	n, err := file.ReadAt(make([]byte, 1), offset)
	return n == 0 && err == io.EOF
}

// sendPiece sends what fill puts into a buffer, within the credit of stream 1. ended is asked before it waits.
func (op *operation) sendPiece(most int64, fill func([]byte) (int, error), ended func() bool) (int, error) {
	credit := op.output[0]
	for credit.bytes.Load() == 0 {
		if ended() {
			return 0, io.EOF
		}
		select {
		case <-credit.more:
		case <-op.cancel:
			return 0, errCancelled
		case <-op.ended:
			return 0, errCancelled
		}
	}
	most = min(most, credit.bytes.Load(), maxData-1)
	granted := op.window.await(most, op.cancel, op.ended)
	if granted == 0 {
		return 0, errCancelled
	}
	buffer := getBuffer(granted)
	n, err := fill((*buffer)[dataHeader : dataHeader+granted])
	if rest := granted - int64(n); rest > 0 {
		op.window.add(rest, rest)
	}
	if n == 0 {
		putBuffer(buffer)
		return 0, err
	}
	credit.bytes.Add(-int64(n))
	op.out.data(op.id, 1, buffer, n)
	return n, err
}
