package main

import (
	"encoding/binary"
	"io"
	"sync"
)

// input is the STDIN of one operation on its way to a pipe or a file. The client's credit bounds it.
type input struct {
	more chan struct{} // a token when there is something new

	mu      sync.Mutex
	buffer  []byte
	used    int  // credit that the client has used and not got back
	eof     bool // STDIN_EOF came
	dropped bool // nobody will take it
	final   bool // the operation's last frame was sent: no CREDIT may follow
}

// takeInput queues the bytes of a STDIN frame.
func (op *operation) takeInput(data []byte) error {
	in := &op.input
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.final {
		return nil
	}
	if in.eof || in.used+len(data) > inputCredit {
		return violation("STDIN beyond its credit or its end")
	}
	if in.dropped {
		op.giveInputCredit(len(data))
		return nil
	}
	if !op.hold(int64(len(data))) {
		op.hold(-int64(len(data)))
		return violation("guests hold too much input")
	}
	in.used += len(data)
	in.buffer = append(in.buffer, data...)
	in.poke()
	return nil
}

func (in *input) poke() {
	select {
	case in.more <- struct{}{}:
	default:
	}
}

func (in *input) finish() {
	in.mu.Lock()
	in.eof = true
	in.mu.Unlock()
	in.poke()
}

// giveInputCredit sends CREDIT. The lock is held, so that it cannot come after the final frame.
func (op *operation) giveInputCredit(n int) {
	if n > 0 && !op.input.final {
		var payload [4]byte
		binary.BigEndian.PutUint32(payload[:], uint32(n))
		op.out.urgent(kindInputCredit, op.id, payload[:])
	}
}

// dropInput lets what is queued and what comes go nowhere, so that the client's writer does not hang. With final
// nothing more is said to the client.
func (op *operation) dropInput(final bool) {
	in := &op.input
	in.mu.Lock()
	defer in.mu.Unlock()
	in.dropped = true
	in.final = in.final || final
	in.buffer = nil
	op.hold(-int64(in.used))
	op.giveInputCredit(in.used)
	in.used = 0
}

// tookInput gives the credit of n bytes back that reached their destination.
func (op *operation) tookInput(n int) {
	in := &op.input
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.dropped { // all of it was given back then
		return
	}
	in.used -= n
	op.hold(-int64(n))
	op.giveInputCredit(n)
}

// nextInput waits for input and returns it in place of the buffer that the caller has done with: io.EOF after the
// last, errCancelled when stop was closed or the connection ended before.
func (op *operation) nextInput(done []byte, stop <-chan struct{}) ([]byte, error) {
	in := &op.input
	for {
		in.mu.Lock()
		data, eof := in.buffer, in.eof
		in.buffer = nil // an idle operation keeps no memory
		if len(data) > 0 {
			in.buffer = done[:0]
		}
		in.mu.Unlock()
		if len(data) > 0 {
			return data, nil
		}
		if eof {
			return nil, io.EOF
		}
		done = nil
		select {
		case <-in.more:
		case <-stop:
			return nil, errCancelled
		case <-op.ended:
			return nil, errCancelled
		}
	}
}
