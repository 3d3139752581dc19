package main

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	maxLinks   = 40 // as the kernel follows
	readerWait = 20 * time.Millisecond
)

// target is where a write goes.
type target struct {
	path string
	old  *syscall.Stat_t // nil: nothing there yet
}

func (f *fileOperation) write() ([]byte, error) {
	to := &target{path: string(f.Path)}
	file, place, err := f.openTarget(to)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := f.store(file, place == "")
	if err == nil && place != "" {
		err = f.commit(file, place, to)
	}
	if err != nil {
		if place != "" {
			// Not through on: this must happen also when the operation was given up.
			AsUser(f.identity, func() error { return syscall.Unlink(place) })
		}
		return nil, err
	}
	return append(sizeJSON("size", size), '}'), nil
}

// openTarget opens the file that is written: the target itself, or a new one whose name is place.
func (f *fileOperation) openTarget(to *target) (file *os.File, place string, err error) {
	if err = f.do(func() error { return f.resolve(to) }); err != nil {
		return nil, "", err
	}
	mode := uint32(0o644)
	if f.Mode != nil {
		mode = *f.Mode
	}
	const inPlace = syscall.O_WRONLY | syscall.O_CREAT
	switch {
	case f.Append && f.Exclusive:
		file, _, err = f.open(to.path, inPlace|syscall.O_APPEND|syscall.O_EXCL, mode)
	case f.Append:
		file, err = f.openWaiting(to.path, inPlace|syscall.O_APPEND, mode)
	case to.old != nil && !isRegular(to.old):
		file, err = f.openWaiting(to.path, syscall.O_WRONLY, 0)
	default:
		var random [8]byte
		rand.Read(random[:])
		place = filepath.Join(filepath.Dir(to.path), ".openrt-"+hex.EncodeToString(random[:]))
		file, _, err = f.open(place, syscall.O_RDWR|syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW, 0o600)
		if to.old != nil && (err == syscall.EACCES || err == syscall.EPERM || err == syscall.EROFS) {
			// A file that may be written in a folder that may not: as by hand.
			file, _, err = f.open(to.path, syscall.O_WRONLY|syscall.O_TRUNC, 0)
			place = ""
		}
	}
	if err == nil && place == "" && f.Mode != nil && (to.old == nil || isRegular(to.old)) {
		err = f.do(func() error { return file.Chmod(fileMode(*f.Mode)) })
	}
	return file, place, err
}

// resolve follows links to what the write replaces, and checks that the user may write it.
func (f *fileOperation) resolve(to *target) error {
	for links := 0; ; links++ {
		var stat syscall.Stat_t
		err := syscall.Lstat(to.path, &stat)
		switch {
		case err == syscall.ENOENT && yes(f.MakeParents):
			return os.MkdirAll(filepath.Dir(to.path), 0o755)
		case err == syscall.ENOENT:
			return nil
		case err != nil:
			return err
		case f.Exclusive:
			return syscall.EEXIST
		case stat.Mode&syscall.S_IFMT == syscall.S_IFDIR:
			return syscall.EISDIR
		case stat.Mode&syscall.S_IFMT == syscall.S_IFLNK && links == maxLinks:
			return syscall.ELOOP
		case stat.Mode&syscall.S_IFMT == syscall.S_IFLNK:
			name, err := os.Readlink(to.path)
			if err != nil {
				return err
			}
			if !filepath.IsAbs(name) {
				// Not cleaned: a folder of the path may be a link, and then .. is not what it seems.
				name = filepath.Dir(to.path) + "/" + name
			}
			to.path = name
		default:
			to.old = &stat
			return mayWrite(to)
		}
	}
}

// mayWrite asks by opening: replacing a file needs rights on its folder only, but who may not write it is told so.
func mayWrite(to *target) error {
	if !isRegular(to.old) {
		return nil
	}
	fd, err := syscall.Open(to.path, syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err == syscall.ETXTBSY { // a running program can be replaced
		return nil
	}
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Fstat(fd, to.old)
}

// openWaiting opens for writing. A FIFO that has no reader yet is tried again until it has one.
func (f *fileOperation) openWaiting(path string, flags int, mode uint32) (*os.File, error) {
	for {
		file, _, err := f.open(path, flags, mode)
		var stat syscall.Stat_t
		if err != syscall.ENXIO || syscall.Stat(path, &stat) != nil || stat.Mode&syscall.S_IFMT != syscall.S_IFIFO {
			return file, err
		}
		select {
		case <-time.After(readerWait):
		case <-f.cancel:
			return nil, errCancelled
		case <-f.ended:
			return nil, errCancelled
		}
	}
}

// store writes STDIN to file until its end.
func (f *fileOperation) store(file *os.File, waits bool) (size int64, err error) {
	if waits {
		defer f.interruptible(file)()
	}
	var data []byte
	for {
		if data, err = f.nextInput(data, f.cancel); err != nil {
			break
		}
		var n int
		if pollable := file.SetDeadline(time.Time{}) == nil; pollable {
			if f.given() { // its deadline may just have been taken away
				return size, errCancelled
			}
			n, err = file.Write(data)
		} else {
			err = f.on(func() (err error) { n, err = file.Write(data); return err })
		}
		size += int64(n)
		f.tookInput(n)
		if err != nil {
			break
		}
	}
	if f.given() {
		return size, errCancelled
	}
	if err == io.EOF {
		err = nil
	}
	return size, err
}

func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	if mode&syscall.S_ISUID != 0 {
		m |= os.ModeSetuid
	}
	if mode&syscall.S_ISGID != 0 {
		m |= os.ModeSetgid
	}
	if mode&syscall.S_ISVTX != 0 {
		m |= os.ModeSticky
	}
	return m
}

// commit gives the new file its mode and puts it in its place.
func (f *fileOperation) commit(file *os.File, place string, to *target) error {
	err := f.do(func() error {
		mode := uint32(0o644)
		if to.old != nil {
			mode = to.old.Mode & 0o7777
			// With the user's rights only, else a user could make files of another.
			if file.Chown(int(to.old.Uid), int(to.old.Gid)) != nil {
				file.Chown(-1, int(to.old.Gid))
				mode &^= syscall.S_ISUID | syscall.S_ISGID
			}
		}
		if f.Mode != nil {
			mode = *f.Mode
		}
		if err := file.Chmod(fileMode(mode)); err != nil {
			return err
		}
		if f.Exclusive { // rename would replace what came in between
			if err := syscall.Link(place, to.path); err != nil {
				return err
			}
			return syscall.Unlink(place)
		}
		return syscall.Rename(place, to.path)
	})
	if err == syscall.EBUSY && to.old != nil {
		return f.copyOver(file, place, to)
	}
	return err
}

// copyOver writes to a file that is a mount point, as /etc/hosts is in many containers: it cannot be replaced.
func (f *fileOperation) copyOver(from *os.File, place string, to *target) error {
	file, _, err := f.open(to.path, syscall.O_WRONLY|syscall.O_TRUNC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	return f.do(func() error {
		if _, err := from.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(file, from); err != nil {
			return err
		}
		return syscall.Unlink(place)
	})
}
