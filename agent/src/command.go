package main

import (
	"encoding/binary"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// forks bounds how many commands are being forked at once: more would only take the processors from each other.
var forks = make(chan struct{}, 2*runtime.NumCPU())

// command is one START from its request to the end of the last process it left behind.
type command struct {
	op       *operation
	detached *background // nil: it is its connection's
	spec     *Spec
	user     *userRequest
	timeout  time.Duration // 0: none
	grace    time.Duration
	program  *Program
	limit    *time.Timer
	cancel   <-chan struct{} // op.cancel until it was heeded
	ended    <-chan struct{} // op.ended, likewise
	exited   chan struct{}   // closed when the command has exited: what lies in the pipes now is the last of its output
	drained  chan struct{}   // closed when that was sent
	pumping  atomic.Int32
	ending   bool // its whole tree is to go
	killing  bool // the next strike is SIGKILL
	killed   bool
	timedOut bool
}

func (op *operation) beginCommand(payload []byte) {
	request, spec, failed := decodeStart(payload)
	if failed == nil {
		failed = op.setCredit(request.Credit)
	}
	if failed != nil {
		op.fail(failed)
		return
	}
	cmd := &command{op: op, spec: spec, user: request.User, cancel: op.cancel, ended: op.ended, grace: seconds(request.Grace),
		exited: make(chan struct{}), drained: make(chan struct{})}
	if request.Timeout != nil {
		cmd.timeout = max(seconds(*request.Timeout), 1)
	}
	if !spec.Stdin && spec.TTY == nil {
		op.dropInput(false)
	}
	if request.Detach != nil {
		op.detach(cmd, string(*request.Detach))
		return
	}
	op.commands.Add(1)
	go cmd.run()
}

func (cmd *command) run() {
	defer cmd.op.commands.Done()
	program, failed := cmd.start()
	if failed != nil {
		cmd.op.fail(failed)
		return
	}
	cmd.program = program
	cmd.op.release()
	cmd.spec = nil
	var pid [4]byte
	binary.BigEndian.PutUint32(pid[:], uint32(program.Pid))
	cmd.op.out.started(cmd.op.id, pid[:])
	cmd.untilOver()
	cmd.op.final(kindExited, cmd.exitedJSON())
	cmd.untilGone()
}

// untilOver returns when the command has ended and all its output was taken.
func (cmd *command) untilOver() {
	cmd.startLimit()
	cmd.startPumps()
	cmd.until(cmd.program.Done())
	if cmd.ending {
		cmd.until(cmd.program.Gone())
	}
	cmd.finishOutput()
	cmd.until(cmd.drained)
}

// untilGone returns when nothing is left of it: what it left running lives on, and is still this command's.
func (cmd *command) untilGone() {
	cmd.until(cmd.program.Gone())
	cmd.limit.Stop()
}

func (cmd *command) start() (*Program, *Failure) {
	free := func() {}
	select {
	case forks <- struct{}{}:
		free = sync.OnceFunc(func() { <-forks })
		defer func() { free() }()
	case <-cmd.op.cancel:
	case <-cmd.op.ended:
	}
	if cmd.given() {
		return nil, errCancelled
	}
	cmd.spec.User = cmd.user.spec()
	begun := time.Now()
	cmd.spec.Waiting = func() bool {
		free() // one that is held up takes no processor from others
		return cmd.given() || cmd.timeout > 0 && time.Since(begun) >= cmd.timeout
	}
	program, failed := StartProgram(cmd.spec)
	switch {
	case failed != nil || !program.GivenUp:
		return program, failed
	case !cmd.given():
		cmd.ending, cmd.killing, cmd.timedOut = true, true, true
		return program, nil
	}
	program.KillTree()
	program.closeFiles()
	return nil, errCancelled
}

// given tells whether the command was given up.
func (cmd *command) given() bool { return isClosed(cmd.op.cancel) || isClosed(cmd.op.ended) }

func (cmd *command) startPumps() {
	p := cmd.program
	cmd.pumping.Store(1) // this function, so that drained is closed once even when there is no output
	for i, file := range []*os.File{p.Stdout, p.Stderr} {
		if file == nil {
			continue
		}
		cmd.pumping.Add(1)
		pump := &pump{cmd: cmd, stream: byte(i + 1), file: file, left: -1}
		if cmd.detached != nil {
			pump.keep, pump.piece = &cmd.detached.output[i], make([]byte, defaultPipe)
		}
		go pump.run()
	}
	if p.Stdin != nil {
		go cmd.feed()
	}
	cmd.pumped()
}

func (cmd *command) pumped() {
	if cmd.pumping.Add(-1) == 0 {
		close(cmd.drained)
	}
}

// finishOutput lets the pumps send what lies in the pipes, and no more.
func (cmd *command) finishOutput() {
	for _, f := range []*os.File{cmd.program.Stdout, cmd.program.Stderr} {
		f.SetReadDeadline(time.Unix(1, 0)) // a nil file answers with an error
	}
	close(cmd.exited)
	cmd.program.Stdin.Close()
}

// feed writes STDIN to the command.
func (cmd *command) feed() {
	op, to := cmd.op, cmd.program.Stdin
	var data []byte
	var err error
	last, grown := byte('\n'), false
	for {
		if data, err = op.nextInput(data, cmd.exited); err != nil {
			break
		}
		if len(data) > defaultPipe && !grown {
			withFd(to, growPipe)
			grown = true
		}
		last = data[len(data)-1]
		for rest := data; len(rest) > 0 && err == nil; {
			var n int
			n, err = to.Write(rest[:min(len(rest), 2*defaultPipe)])
			op.tookInput(n)
			rest = rest[n:]
		}
		if err != nil {
			break
		}
	}
	switch {
	case err != io.EOF:
		op.dropInput(false)
		to.Close()
	case !cmd.program.tty:
		to.Close()
	case last == '\n':
		to.Write([]byte{4}) // a terminal has no other end of file than its own character
	default:
		to.Write([]byte{4, 4}) // the first one only ends the line
	}
}

func (cmd *command) exitedJSON() []byte {
	o := cmd.program.Outcome()
	b := make([]byte, 0, 224)
	number := func(key string, n int64) { b = strconv.AppendInt(append(b, key...), n, 10) }
	flag := func(key string, v bool) { b = strconv.AppendBool(append(b, key...), v) }
	duration := func(key string, d time.Duration) {
		b = strconv.AppendFloat(append(b, key...), d.Seconds(), 'f', 6, 64)
	}
	if o.Signal > 0 {
		number(`{"exit_code":null,"signal":`, int64(o.Signal))
	} else {
		number(`{"signal":null,"exit_code":`, int64(o.ExitCode))
	}
	flag(`,"core":`, o.Core)
	flag(`,"timed_out":`, cmd.timedOut)
	flag(`,"killed":`, cmd.killed)
	duration(`,"wall":`, o.Wall)
	duration(`,"user":`, o.User)
	duration(`,"system":`, o.System)
	number(`,"max_rss":`, o.MaxRSS)
	return append(b, '}')
}
