//go:build undefended_dumpable

package main

import "syscall"

// For a test that shows what the defence is for.
func becomeUndumpable() syscall.Errno { return 0 }
