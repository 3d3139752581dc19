package main

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
	"unsafe"
)

const (
	defaultPipe = 1 << 16
	largePipe   = 1 << 19
	// A terminal hands what was written to it on with a delay, so its queue tells too little. No terminal holds more.
	terminalQueue = 1 << 17
	fSetPipeSize  = 1031
)

// pump sends one output stream of a command. It holds a buffer only while there is something to read and credit
// to send it.
type pump struct {
	cmd    *command
	stream byte
	file   *os.File
	left   int64 // once the command has exited: how much of its output is left; before: -1
	grown  bool
	keep   *ring  // where the output goes instead, when the command is detached
	piece  []byte // then: on its way there
}

func (p *pump) run() {
	raw, err := p.file.SyscallConn()
	for err == nil {
		if p.left < 0 && isClosed(p.cmd.exited) {
			p.file.SetReadDeadline(time.Time{})
			p.left = terminalQueue
			if !p.cmd.program.tty {
				p.left = int64(Pending(p.file))
			}
		}
		if p.left == 0 || isClosed(p.cmd.op.ended) {
			break
		}
		if p.keep != nil {
			err = p.store()
		} else {
			err = p.step(raw)
		}
	}
	p.cmd.pumped()
	// Until the last writer is gone, who may be of another command: a shell session's shell opens the pipe by /proc.
	io.Copy(io.Discard, p.file)
	p.file.Close()
}

// store reads one piece of output into the ring, which takes everything.
func (p *pump) store() error {
	most := int64(len(p.piece))
	if p.left > 0 {
		most = min(p.left, most)
	}
	n, err := p.file.Read(p.piece[:most])
	p.keep.write(p.piece[:n])
	if p.left > 0 {
		p.left -= int64(n)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		<-p.cmd.exited // closed right after the deadline was set
		return nil
	}
	return err
}

// stop is what interrupts a wait: the exit of the command, which is news only once.
func (p *pump) stop() <-chan struct{} {
	if p.left < 0 {
		return p.cmd.exited
	}
	return nil
}

// step sends one piece, or waits for what it lacks: credit or output.
func (p *pump) step(raw syscall.RawConn) error {
	op, credit := p.cmd.op, p.cmd.op.output[p.stream-1]
	most := min(credit.bytes.Load(), maxData-1)
	if p.left > 0 {
		// What an ended command left does not wait for a reader who may never come.
		most = min(p.left, maxData-1)
	}
	if most <= 0 {
		select {
		case <-credit.more:
		case <-p.stop():
		case <-op.ended:
		}
		return nil
	}
	granted := int64(0)
	for {
		n, buffer, wanted, err := p.read(raw, most, &granted)
		if n > 0 {
			op.window.add(granted-int64(n), granted-int64(n))
			credit.bytes.Add(-int64(n))
			if p.left > 0 {
				p.left -= int64(n)
			}
			op.out.data(op.id, p.stream, buffer, n)
			return nil
		}
		if granted > 0 {
			op.window.add(granted, granted)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			<-p.cmd.exited // closed right after the deadline was set
			return nil
		}
		if err != nil {
			return err
		}
		if granted = op.window.await(wanted, p.stop(), op.ended); granted == 0 {
			return nil
		}
	}
}

// read waits for output and reads it into a buffer. With no error and n 0 the connection lacks credit for wanted.
func (p *pump) read(raw syscall.RawConn, most int64, granted *int64) (n int, buffer *[]byte, wanted int64, err error) {
	op := p.cmd.op
	waited := raw.Read(func(fd uintptr) bool {
		wanted = min(most, p.ready(int(fd)))
		if *granted == 0 {
			*granted = op.window.take(wanted)
		}
		if *granted == 0 {
			return true
		}
		buffer = getBuffer(*granted)
		for {
			n, err = syscall.Read(int(fd), (*buffer)[dataHeader:dataHeader+*granted])
			if err != syscall.EINTR {
				break
			}
		}
		if n > 0 {
			return true
		}
		putBuffer(buffer)
		buffer = nil
		if err != syscall.EAGAIN || p.left >= 0 {
			err = io.EOF // also EIO: how a terminal ends
			return true
		}
		err = nil
		op.window.add(*granted, *granted)
		*granted = 0
		return false
	})
	if waited != nil {
		err = waited
	}
	return n, buffer, wanted, err
}

// ready is how much to read: what is there, or a little to find out whether the stream has ended.
func (p *pump) ready(fd int) int64 {
	var n int32
	ioctl(fd, syscall.TIOCINQ, unsafe.Pointer(&n))
	if n >= defaultPipe && !p.grown {
		growPipe(fd) // a writer of much then runs while we send
		p.grown = true
	}
	return max(int64(n), smallBuffer-dataHeader)
}

// growPipe is tried only; a pipe of the usual size works too.
func growPipe(fd int) {
	syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), fSetPipeSize, largePipe)
}
