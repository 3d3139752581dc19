//go:build !undefended_tree

package main

func (cmd *command) kill() {
	cmd.ending, cmd.killing = true, true
	kills <- struct{}{}
	cmd.program.KillTree()
	<-kills
	if !isClosed(cmd.program.Gone()) {
		cmd.limit.Reset(killAgain)
	}
}
