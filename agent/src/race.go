//go:build race

package main

import (
	"syscall"

	// The race detector needs cgo, and with cgo Go makes no system call in all threads.
	_ "openrt-agent/capless"
)

const (
	// What enters a Go function from assembly calls the race detector, which a process that shares the agent's memory
	// may not. Linux refuses this flag alone with EINVAL, as qemu does CLONE_VM: the shim is a copy then.
	sharedMemory  = syscall.CLONE_THREAD
	droppedBefore = true
)
