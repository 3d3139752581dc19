//go:build undefended_tree

package main

import "syscall"

// For a test that shows what the defence is for: a kill of the process group, as most programs do it.
func (cmd *command) kill() {
	cmd.killing = true
	_ = syscall.Kill(-cmd.program.Pid, syscall.SIGKILL)
}
