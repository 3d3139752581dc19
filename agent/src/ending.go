package main

import (
	"syscall"
	"time"
)

// killAgain is when a tree that outlived the time of KillTree (a fork bomb, an unresponsive disk) is killed again.
const killAgain = time.Second

// kills bounds how many trees are being killed at once: each one reads /proc again and again.
var kills = make(chan struct{}, 64)

func (cmd *command) startLimit() {
	cmd.limit = time.NewTimer(time.Hour)
	cmd.limit.Stop()
	if cmd.timeout > 0 {
		cmd.limit.Reset(cmd.timeout)
	}
}

// until handles everything that can happen to a running command, until c is closed.
func (cmd *command) until(c <-chan struct{}) {
	for {
		select {
		case <-c:
			return
		case request := <-cmd.op.controls:
			cmd.obey(request)
		case <-cmd.cancel:
			cmd.cancel = nil
			cmd.killed = cmd.killed || cmd.running()
			cmd.kill()
		case <-cmd.ended:
			cmd.ended = nil
			if !cmd.op.owner || cmd.op.linger.Load() > 0 { // else everything goes with the owner, at once
				cmd.kill()
			}
		case <-cmd.limit.C:
			cmd.strike()
		}
	}
}

func (cmd *command) running() bool { return !isClosed(cmd.program.Done()) }

func (cmd *command) obey(request control) {
	switch {
	case request.kind == kindResize:
		cmd.program.Resize(request.a, request.b)
	case syscall.Signal(request.a) == syscall.SIGKILL && request.b == 2:
		cmd.killed = cmd.killed || cmd.running()
		cmd.kill()
	default:
		// Nobody left to signal is no error that the protocol could tell.
		cmd.program.Signal(syscall.Signal(request.a), int(request.b))
	}
}

// strike is the time limit: a request to end first when there is grace, then the end.
func (cmd *command) strike() {
	if cmd.killing {
		cmd.kill()
		return
	}
	cmd.timedOut = cmd.timedOut || cmd.running()
	if cmd.grace == 0 {
		cmd.kill()
		return
	}
	cmd.ending, cmd.killing = true, true
	cmd.program.Signal(syscall.SIGTERM, 2)
	cmd.limit.Reset(cmd.grace)
}
