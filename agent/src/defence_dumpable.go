//go:build !undefended_dumpable

package main

import "syscall"

// becomeUndumpable closes the agent's entries in /proc to all but a tracer.
func becomeUndumpable() syscall.Errno { return prctl(prSetDumpable, 0) }
