package main

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

const (
	tiocgptn    = 0x80045430
	tiocsptlck  = 0x40045431
	tiocgptpeer = 0x5441
)

type windowSize struct{ rows, cols, x, y uint16 }

func ioctl(fd int, request uintptr, arg unsafe.Pointer) syscall.Errno {
	_, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return e
}

// openTerminal opens both sides of a new pseudo terminal; the master does not block.
func openTerminal(spec *TTYSpec, owner *Identity) (master, slave int, err error) {
	const flags = syscall.O_RDWR | syscall.O_NOCTTY | syscall.O_CLOEXEC
	master, err = syscall.Open("/dev/ptmx", flags|syscall.O_NONBLOCK, 0)
	if err != nil {
		master, err = syscall.Open("/dev/pts/ptmx", flags|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return -1, -1, os.NewSyscallError("open /dev/ptmx", err)
	}
	defer func() {
		if err != nil {
			syscall.Close(master)
		}
	}()
	var unlock int32
	if e := ioctl(master, tiocsptlck, unsafe.Pointer(&unlock)); e != 0 {
		return -1, -1, os.NewSyscallError("unlockpt", e)
	}
	// Asking the master for its peer works whatever is mounted on /dev/pts.
	peer, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(master), tiocgptpeer, flags)
	slave = int(peer)
	if e != 0 { // before Linux 4.13
		var number uint32
		if e := ioctl(master, tiocgptn, unsafe.Pointer(&number)); e != 0 {
			return -1, -1, os.NewSyscallError("ptsname", e)
		}
		slave, err = syscall.Open("/dev/pts/"+strconv.Itoa(int(number)), flags, 0)
		if err != nil {
			return -1, -1, os.NewSyscallError("open pts", err)
		}
	}
	if e := setWindow(master, spec.Rows, spec.Cols); e != 0 {
		syscall.Close(slave)
		return -1, -1, os.NewSyscallError("TIOCSWINSZ", e)
	}
	if owner != nil {
		// So that the command can open /dev/tty's file by name. Where the agent
		// may not, the terminal still works through the descriptors.
		_ = syscall.Fchown(slave, int(owner.Uid), -1)
	}
	return master, slave, nil
}

func setWindow(fd int, rows, cols uint16) syscall.Errno {
	size := windowSize{rows: rows, cols: cols}
	return ioctl(fd, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
}

// Resize tells the terminal its new size; the kernel sends SIGWINCH.
func (p *Program) Resize(rows, cols uint16) *Failure {
	if !p.tty {
		return failure("invalid", "resize: the command has no terminal", syscall.ENOTTY)
	}
	e := syscall.EBADF
	if !withFd(p.Stdout, func(fd int) { e = setWindow(fd, rows, cols) }) {
		withFd(p.Stdin, func(fd int) { e = setWindow(fd, rows, cols) })
	}
	if e != 0 {
		return failure("io", "resize", e)
	}
	return nil
}

// Pending counts the bytes that lie in a pipe or terminal; 0 when it is closed.
func Pending(f *os.File) int {
	var n int32
	withFd(f, func(fd int) {
		if e := ioctl(fd, syscall.TIOCINQ, unsafe.Pointer(&n)); e != 0 {
			n = 0
		}
	})
	return int(n)
}

// withFd lends the descriptor; false when the file is closed. (File.Fd would
// make it blocking.)
func withFd(f *os.File, work func(fd int)) bool {
	if f == nil {
		return false
	}
	raw, err := f.SyscallConn()
	return err == nil && raw.Control(func(fd uintptr) { work(int(fd)) }) == nil
}
