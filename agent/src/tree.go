package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// listBatch is how many entries are read for one turn on a thread.
const listBatch = 256

func appendEntry(to []byte, name string, stat *syscall.Stat_t, link string) []byte {
	kind := "other"
	switch stat.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		kind = "file"
	case syscall.S_IFDIR:
		kind = "dir"
	case syscall.S_IFLNK:
		kind = "link"
	}
	to = appendByteString(append(to, `{"name":`...), name)
	to = append(append(append(to, `,"type":"`...), kind...), '"')
	number := func(key string, n int64) { to = strconv.AppendInt(append(to, key...), n, 10) }
	number(`,"size":`, stat.Size)
	number(`,"mode":`, int64(stat.Mode&0o7777))
	number(`,"mtime_ns":`, stat.Mtim.Nano())
	number(`,"uid":`, int64(stat.Uid))
	number(`,"gid":`, int64(stat.Gid))
	if kind == "link" {
		to = appendByteString(append(to, `,"target":`...), link)
	}
	return append(to, '}')
}

// describe adds the ENTRY of path.
func describe(to []byte, path, name string, follow bool) ([]byte, error) {
	var stat syscall.Stat_t
	var link string
	look := syscall.Lstat
	if follow {
		look = syscall.Stat
	}
	err := look(path, &stat)
	if err == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFLNK {
		link, err = os.Readlink(path)
	}
	if err != nil {
		return to, err
	}
	return appendEntry(to, name, &stat, link), nil
}

func (f *fileOperation) stat() (result []byte, err error) {
	path := string(f.Path)
	err = f.do(func() error {
		result, err = describe([]byte(`{"entry":`), path, filepath.Base(path), yes(f.Follow))
		return err
	})
	return append(result, '}'), err
}

func (f *fileOperation) list() ([]byte, error) {
	folder, _, err := f.open(string(f.Path), syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	count := int64(0)
	var lines []byte
	never := func() bool { return false }
	for more := true; more; {
		lines = lines[:0]
		err = f.do(func() error {
			names, err := folder.Readdirnames(listBatch)
			for _, name := range names {
				before := len(lines)
				var failed error
				lines, failed = describe(lines, string(f.Path)+"/"+name, name, false)
				switch {
				case failed == nil:
					lines = append(lines, '\n')
					count++
				case errors.Is(failed, syscall.ENOENT): // removed meanwhile
					lines = lines[:before]
				default:
					return failed
				}
			}
			return err
		})
		more = err == nil
		if err != nil && err != io.EOF {
			return nil, err
		}
		for rest := lines; len(rest) > 0; {
			n, err := f.sendPiece(int64(len(rest)), func(p []byte) (int, error) { return copy(p, rest), nil }, never)
			if err != nil {
				return nil, err
			}
			rest = rest[n:]
		}
	}
	return append(sizeJSON("count", count), '}'), nil
}

func (f *fileOperation) mkdir() error {
	path := strings.TrimRight(string(f.Path), "/")
	mode := uint32(0o755)
	if f.Mode != nil {
		mode = *f.Mode
	}
	err := syscall.Mkdir(path, mode&0o777)
	if err == syscall.ENOENT && yes(f.Parents) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		err = syscall.Mkdir(path, mode&0o777)
	}
	if err == syscall.EEXIST && yes(f.ExistOK) {
		if info, failed := os.Stat(path + "/"); failed == nil && info.IsDir() {
			return nil
		}
	}
	if err == nil && mode > 0o777 {
		return os.Chmod(path, fileMode(mode))
	}
	return err
}

func (f *fileOperation) remove() error {
	path := strings.TrimRight(string(f.Path), "/") // a link with a slash behind it would be followed
	var stat, root syscall.Stat_t
	if base := filepath.Base(path); path == "" || base == "." || base == ".." {
		return invalid("remove refuses / and names that are no entry")
	}
	if err := syscall.Lstat(path, &stat); err != nil {
		return err
	}
	if err := syscall.Lstat("/", &root); err != nil || root.Dev == stat.Dev && root.Ino == stat.Ino {
		return invalid("remove refuses /")
	}
	switch {
	case f.Recursive:
		return os.RemoveAll(path)
	case stat.Mode&syscall.S_IFMT == syscall.S_IFDIR:
		return syscall.Rmdir(path)
	}
	return syscall.Unlink(path)
}
