//go:build race

package main

// The race detector needs cgo, and with cgo Go makes no system call in all threads.
import _ "openrt-agent/without_ptrace"

const droppedBefore = true
