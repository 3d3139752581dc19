package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

const (
	pipeFileSystem   = 0x50495045
	socketFileSystem = 0x534f434b
	procFileSystem   = 0x9fa0
)

// notTheAgents refuses a file, just opened, that is a part of the agent itself. Files are opened in the agent, so that
// links to /proc/self lead there: to its memory, its environment, and the streams of its clients.
func notTheAgents(fd int) error {
	var system syscall.Statfs_t
	if err := syscall.Fstatfs(fd, &system); err != nil {
		return err
	}
	switch system.Type {
	case pipeFileSystem, socketFileSystem:
		return syscall.EACCES
	case procFileSystem:
		path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		if err != nil || isOfTheAgent(path) {
			return syscall.EACCES
		}
	}
	return nil
}

// isOfTheAgent looks for the number of one of the agent's threads: each has a folder in /proc, listed or not. Of a
// mount elsewhere, all parts of the path are looked at. What /proc/mounts and /proc/net link to is for everybody.
func isOfTheAgent(path string) bool {
	inside, usual := strings.CutPrefix(path, "/proc/")
	parts := strings.Split(inside, "/")
	if usual {
		if len(parts) > 1 && (parts[1] == "mounts" || parts[1] == "net") {
			return false
		}
		parts = parts[:1]
	}
	for _, part := range parts {
		if _, err := strconv.Atoi(part); err != nil {
			continue
		}
		if _, err := os.Stat("/proc/self/task/" + part); err == nil {
			return true
		}
	}
	return false
}
