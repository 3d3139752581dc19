package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// The sandbox's own files may be anything; a larger one is not read to its end.
const userFileLimit = 4 << 20

// LookupUser finds the ids, groups and home of a user; the agent's own for nil.
func LookupUser(u *UserSpec) (Identity, *Failure) {
	if u == nil {
		return self(), nil
	}
	id := Identity{Uid: u.Uid, Gid: u.Gid, Groups: u.Groups, Home: "/tmp"}
	found := false
	eachLine("/etc/passwd", 6, func(f []string) bool {
		uid, gid, ok := twoIds(f[2], f[3])
		if !ok || (u.Name != "" && f[0] != u.Name) || (u.Name == "" && uid != u.Uid) {
			return true
		}
		found = true
		id.Name = f[0]
		if f[5] != "" {
			id.Home = f[5]
		}
		if u.Name != "" {
			id.Uid, id.Gid = uid, gid
		}
		return false
	})
	if u.Name == "" {
		return id, nil
	}
	if !found {
		return Identity{}, &Failure{Code: "user", Message: "no such user: " + u.Name, Errno: int(syscall.ENOENT)}
	}
	id.Groups = []uint32{id.Gid}
	eachLine("/etc/group", 4, func(f []string) bool {
		gid, _, ok := twoIds(f[2], "0")
		if ok && !slices.Contains(id.Groups, gid) && slices.Contains(strings.Split(f[3], ","), u.Name) {
			id.Groups = append(id.Groups, gid)
		}
		return true
	})
	return id, nil
}

// eachLine gives the fields of every line that has at least so many, until the
// work says false. A file that is missing, or no file, has no lines.
func eachLine(path string, fields int, work func([]string) bool) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return
	}
	data, err := io.ReadAll(io.LimitReader(file, userFileLimit))
	if err != nil {
		return
	}
	for _, line := range strings.Split(string(data), "\n") {
		f := strings.Split(line, ":")
		if len(f) >= fields && !work(f) {
			return
		}
	}
}

func twoIds(a, b string) (uint32, uint32, bool) {
	x, e1 := strconv.ParseUint(a, 10, 32)
	y, e2 := strconv.ParseUint(b, 10, 32)
	return uint32(x), uint32(y), e1 == nil && e2 == nil
}

// self is the agent's own identity, which nothing changes for the process.
var self = sync.OnceValue(func() Identity {
	id := Identity{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}
	groups, _ := syscall.Getgroups() // cannot fail with a buffer of the right size
	for _, g := range groups {
		id.Groups = append(id.Groups, uint32(g))
	}
	return id
})

// needsSwitch is false when the agent already is that user and in these groups:
// without the right to change, it can still do this user's work.
func needsSwitch(id *Identity) bool {
	if id == nil {
		return false
	}
	own := self()
	foreign := func(group uint32) bool { return group != own.Gid && !slices.Contains(own.Groups, group) }
	return id.Uid != own.Uid || id.Gid != own.Gid || slices.ContainsFunc(id.Groups, foreign)
}

// AsUser does file work with the file system ids and groups of a user (nil: the
// agent's own). Go's calls for this change every thread; these change one, which
// work has for itself. A thread that cannot be changed back ends with it.
func AsUser(id *Identity, work func() error) error {
	if !needsSwitch(id) {
		return work()
	}
	own := self()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // left locked, the thread dies with the goroutine
		// Written first, so that a work that calls runtime.Goexit is an error too.
		err := errors.New("file work was given up")
		defer func() {
			if setThread(&own) {
				runtime.UnlockOSThread()
			}
			result <- err
		}()
		if !setThread(id) {
			err = failure("user", "change to uid "+strconv.Itoa(int(id.Uid)), syscall.EPERM)
			return
		}
		err = work()
	}()
	return <-result
}

// setThread sets the groups before the uid is given up and after it is taken
// back: only then may it. The calls for fsuid and fsgid tell no error, so they are read again.
func setThread(id *Identity) bool {
	const read = ^uintptr(0)
	set := func(call uintptr, to uint32) bool {
		syscall.RawSyscall(call, uintptr(to), 0, 0)
		now, _, _ := syscall.RawSyscall(call, read, 0, 0)
		return uint32(now) == to
	}
	groups := id.Groups
	_, _, e := syscall.RawSyscall(syscall.SYS_SETGROUPS, uintptr(len(groups)),
		uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0)
	ok := e == 0 && set(syscall.SYS_SETFSGID, id.Gid) && set(syscall.SYS_SETFSUID, id.Uid)
	prctl(prSetDumpable, 0) // the kernel may have set it with the ids
	return ok
}

// makeFolders makes what is missing of a path, owned by the user. The user makes it where the user may; only elsewhere
// the agent does and gives it away.
func makeFolders(path string, id *Identity) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	path = filepath.Clean("/" + path)
	if needsSwitch(id) {
		if err := giveFolder(path, id); err != nil {
			return err
		}
	}
	return AsUser(id, func() error { return os.MkdirAll(path, 0o755) })
}

// giveFolder makes the first missing folder of a path if all before it are such that only root can change them: nobody
// can lead the agent to another place then. The user may make the rest, which is below it.
func giveFolder(path string, id *Identity) error {
	const flags = syscall.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC
	at, err := syscall.Open("/", flags, 0)
	if err != nil {
		return err
	}
	defer func() { syscall.Close(at) }()
	for _, name := range strings.Split(path[1:], "/") {
		if !onlyRootChanges(at) {
			return nil
		}
		next, err := syscall.Openat(at, name, flags, 0)
		if err == syscall.ENOENT {
			return giveOne(at, name, flags, id)
		}
		if err != nil { // a link, or no folder: the user is told later
			return nil
		}
		syscall.Close(at)
		at = next
	}
	return nil
}

func giveOne(at int, name string, flags int, id *Identity) error {
	err := AsUser(id, func() error { return syscall.Mkdirat(at, name, 0o755) })
	if err == syscall.EACCES || err == syscall.EPERM {
		if err = syscall.Mkdirat(at, name, 0o755); err == nil {
			var made int
			if made, err = syscall.Openat(at, name, flags, 0); err == nil {
				defer syscall.Close(made)
				err = syscall.Fchown(made, int(id.Uid), int(id.Gid))
			}
		}
	}
	if err == syscall.EEXIST { // made meanwhile
		return nil
	}
	return err
}

// onlyRootChanges tells whether nobody but root and the agent can change or replace what lies in a folder.
func onlyRootChanges(folder int) bool {
	var stat syscall.Stat_t
	if syscall.Fstat(folder, &stat) != nil || stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return false
	}
	return stat.Mode&0o022 == 0 || stat.Mode&syscall.S_ISVTX != 0
}
