package main

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	maxDetached  = 256 // commands that run at once
	maxEnded     = 64  // commands that have ended and are remembered
	shownCommand = 200 // bytes of its argv that a list shows
)

// background is a command that belongs to the sandbox and not to the connection that started it. What it prints
// is kept in rings, and read from there by any number of attachments.
type background struct {
	name, shown string
	op          *operation // of no connection: what the attachments ask of the command comes through it
	cancel      sync.Once
	output      [2]ring
	started     chan struct{} // closed when it runs, or could not be started
	pid         int           // valid after started
	failed      *Failure      // likewise; nil: it runs
	over        chan struct{} // closed when it has ended and its output lies in the rings
	exited      []byte        // the payload of EXITED, valid after over
}

// nobody is the connection of what belongs to no client. It never ends before the agent does.
var nobody = &connection{owner: true, ended: make(chan struct{})}

var detached = struct {
	sync.Mutex
	commands map[string]*background
	ended    []*background // of these, in the order in which they ended
}{commands: map[string]*background{}}

func isCommandName(name string) bool {
	odd := func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c))
	}
	return name != "" && len(name) <= 64 && strings.IndexFunc(name, odd) < 0
}

// detach starts the command for the sandbox, and attaches the operation to it.
func (op *operation) detach(cmd *command, name string) {
	shown := strings.Join(cmd.spec.Argv, " ")
	bg := &background{
		name: name, shown: shown[:min(len(shown), shownCommand)], started: make(chan struct{}), over: make(chan struct{}),
		op: &operation{connection: nobody, cancel: make(chan struct{}), controls: make(chan control, maxControls)},
	}
	for i := range bg.output {
		bg.output[i].over = make(chan struct{})
	}
	if failed := bg.register(); failed != nil {
		op.fail(failed)
		return
	}
	cmd.op, cmd.cancel, cmd.ended, cmd.detached = bg.op, bg.op.cancel, bg.op.ended, bg
	go bg.run(cmd)
	op.attach(bg, [2]int64{})
}

func (bg *background) register() *Failure {
	detached.Lock()
	defer detached.Unlock()
	if detached.commands[bg.name] != nil {
		return &Failure{Code: "exists", Message: "there is a detached command of this name"}
	}
	if len(detached.commands)-len(detached.ended) >= maxDetached {
		return &Failure{Code: "too_many", Message: "too many detached commands"}
	}
	detached.commands[bg.name] = bg
	return nil
}

func (bg *background) run(cmd *command) {
	program, failed := cmd.start()
	if failed != nil {
		detached.Lock()
		delete(detached.commands, bg.name)
		detached.Unlock()
		bg.failed = failed
		close(bg.started)
		return
	}
	cmd.program, cmd.spec = program, nil
	bg.pid = program.Pid
	close(bg.started)
	cmd.untilOver()
	bg.end(cmd.exitedJSON())
	cmd.untilGone()
}

func (bg *background) end(exited []byte) {
	bg.exited = exited
	for i := range bg.output {
		bg.output[i].finish()
	}
	detached.Lock()
	defer detached.Unlock()
	close(bg.over)
	detached.ended = append(detached.ended, bg)
	if len(detached.ended) > maxEnded {
		delete(detached.commands, detached.ended[0].name)
		detached.ended = detached.ended[1:]
	}
}

// stop kills the command's tree.
func (bg *background) stop() { bg.cancel.Do(func() { close(bg.op.cancel) }) }

// named finds the command that a request names.
func named(payload []byte, request any, name *byteString) (*background, *Failure) {
	if payload[0] != '{' {
		return nil, invalid("the request is no JSON object")
	}
	if err := json.Unmarshal(payload, request); err != nil {
		return nil, invalid(err.Error())
	}
	detached.Lock()
	defer detached.Unlock()
	if bg := detached.commands[string(*name)]; bg != nil {
		return bg, nil
	}
	return nil, &Failure{Code: "not_found", Message: "there is no detached command of this name"}
}

func (op *operation) forget(payload []byte) {
	var request struct{ Command byteString }
	bg, failed := named(payload, &request, &request.Command)
	if failed == nil && !isClosed(bg.over) {
		failed = &Failure{Code: "running", Message: "the command runs"}
	}
	if failed != nil {
		op.fail(failed)
		return
	}
	detached.Lock()
	if detached.commands[bg.name] == bg {
		delete(detached.commands, bg.name)
		detached.ended = slices.DeleteFunc(detached.ended, func(other *background) bool { return other == bg })
	}
	detached.Unlock()
	op.final(kindEnd, nothing)
}

// listJSON is the answer to LIST.
func listJSON() []byte {
	detached.Lock()
	defer detached.Unlock()
	b := []byte(`{"commands":[`)
	for _, bg := range detached.commands {
		pid := 0
		if isClosed(bg.started) {
			if bg.failed != nil {
				continue
			}
			pid = bg.pid
		}
		if b[len(b)-1] == '}' {
			b = append(b, ',')
		}
		b = appendByteString(append(b, `{"command":`...), bg.name)
		b = appendByteString(append(b, `,"argv":`...), bg.shown)
		b = strconv.AppendInt(append(b, `,"pid":`...), int64(pid), 10)
		first1, end1 := bg.output[0].bounds()
		first2, end2 := bg.output[1].bounds()
		b = append(b, `,"output":[`...)
		for _, n := range []int64{first1, end1, first2, end2} {
			b = append(strconv.AppendInt(b, n, 10), ',')
		}
		b = append(b[:len(b)-1], `],"exited":`...)
		if isClosed(bg.over) {
			b = append(b, bg.exited...)
		} else {
			b = append(b, "null"...)
		}
		b = append(b, '}')
	}
	return append(b, `]}`...)
}
