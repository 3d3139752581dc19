package main

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// guestMemory is what all guests together may make the agent hold: input that no command took yet, and requests
// that have not begun. They come from inside the sandbox; the owner is trusted with the memory of its sandbox.
const guestMemory = 64 << 20

// maxControls is how many SIGNALs and RESIZEs of a command may wait for it; more are dropped.
const maxControls = 16

var guestsHold atomic.Int64

var bootID = func() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}()

// connection is one client: the owner on stdio, or a guest on the socket. Its reader never waits for anything but
// the client, so that the end of the stream, CANCEL and the lease are always seen.
type connection struct {
	owner     bool
	in        *os.File
	out       *writer
	window    *window
	lease     *lease
	linger    atomic.Int64  // nanoseconds that the agent lives on without a client, of the owner's HELLO
	ended     chan struct{} // closed when the connection has ended: everything it started must go
	endOnce   sync.Once
	fatal     *Failure       // why, when the client is to be told; valid after ended
	commands  sync.WaitGroup // commands of which something may still live
	highestID uint32

	mu   sync.Mutex
	open map[uint32]*operation
}

// operation is what a client opened with START or FILE.
type operation struct {
	*connection
	id        uint32
	output    [2]*allowance // stream 1 and 2
	input     input
	controls  chan control
	cancel    chan struct{}
	cancelled bool // used by the reader only
	held      int64
}

// control is a SIGNAL or a RESIZE, in the order in which they came.
type control struct {
	kind byte
	a, b uint16
}

func newConnection(in, out *os.File, owner bool) *connection {
	c := &connection{owner: owner, in: in, window: newWindow(), ended: make(chan struct{}), open: map[uint32]*operation{}}
	c.out = newWriter(out, c.window, func() { c.end(nil) })
	c.lease = newLease(c.expire)
	return c
}

// end ends the connection for the reason fatal, nil when the client is gone. It does not wait.
func (c *connection) end(fatal *Failure) {
	c.endOnce.Do(func() {
		c.fatal = fatal
		c.out.finish(fatal)
		close(c.ended)
		c.lease.stop()
		// Wakes the reader of a guest. The owner's may sit in a read that cannot be interrupted; the agent exits.
		c.in.SetReadDeadline(time.Unix(1, 0))
	})
}

// expire is the end of a client that was not heard. Where the agent lives on, the client may come back to its stream.
func (c *connection) expire() {
	if c.linger.Load() > 0 {
		c.end(&Failure{Code: "lease", Message: "the client was not heard for the time of its lease"})
	}
	c.end(nil)
}

// serve reads frames until the connection ends.
func (c *connection) serve() {
	hello, _ := json.Marshal(map[string]any{
		"protocol": protocolVersion, "agent": version, "boot": bootID, "pid": os.Getpid(), "uid": os.Getuid(),
		"owner": c.owner, "arch": runtime.GOARCH,
	})
	c.out.urgent(kindAgentHello, 0, hello)
	go c.out.run()
	frames := frameReader{in: bufio.NewReaderSize(heardReader{c.in, c.lease}, 1<<16)}
	err := c.hello(&frames)
	for err == nil {
		var f frame
		if f, err = frames.next(); err == nil && !isClosed(c.ended) {
			err = c.handle(f)
		}
	}
	var broken violation
	var refused *Failure
	switch {
	case errors.As(err, &refused):
		c.end(refused)
	case errors.As(err, &broken):
		c.end(&Failure{Code: "violation", Message: string(broken)})
	default:
		c.end(nil)
	}
}

func (c *connection) hello(frames *frameReader) error {
	f, err := frames.next()
	if err != nil {
		return err
	}
	if f.kind != kindHello {
		return violation("the first frame is not HELLO")
	}
	greeting := struct {
		Protocol int
		Lease    float64
		Linger   float64
	}{Lease: defaultLease.Seconds()}
	if json.Unmarshal(f.payload, &greeting) != nil {
		return violation("malformed HELLO")
	}
	if greeting.Protocol != protocolVersion {
		return &Failure{Code: "version", Message: "the agent speaks protocol 1"}
	}
	if greeting.Lease < 5 || greeting.Lease > 86400 {
		return violation("a lease is 5 to 86400 seconds")
	}
	if !(greeting.Linger >= 0) {
		return violation("linger is 0 or more seconds")
	}
	c.lease.set(seconds(greeting.Lease))
	if c.owner {
		c.linger.Store(int64(seconds(greeting.Linger)))
	}
	return nil
}

func (c *connection) handle(f frame) error {
	switch f.kind {
	case kindHello:
		return violation("second HELLO")
	case kindPing:
		c.out.urgent(kindPong, 0, f.payload)
		return nil
	case kindStart, kindFile, kindAttach, kindList, kindForget, kindForward:
		return c.begin(f)
	case kindCredit:
		if f.id == 0 {
			if f.payload[0] != 0 {
				return violation("credit for stream of no operation")
			}
			return c.window.add(int64(binary.BigEndian.Uint32(f.payload[1:])), 0)
		}
	}
	c.mu.Lock()
	op := c.open[f.id]
	c.mu.Unlock()
	if op != nil {
		return op.handle(f)
	}
	if f.id > c.highestID {
		return violation("frame for an id that was never opened")
	}
	return nil // it crossed the final frame
}

func (op *operation) handle(f frame) error {
	switch f.kind {
	case kindStdin:
		return op.takeInput(f.payload)
	case kindStdinEOF:
		op.input.finish()
	case kindCredit:
		if f.payload[0] != 1 && f.payload[0] != 2 {
			return violation("credit for an unknown stream")
		}
		return op.output[f.payload[0]-1].add(int64(binary.BigEndian.Uint32(f.payload[1:])))
	case kindSignal:
		if f.payload[0] == 0 || f.payload[0] > 64 || f.payload[1] > 2 {
			return violation("unknown signal or scope")
		}
		op.control(control{f.kind, uint16(f.payload[0]), uint16(f.payload[1])})
	case kindResize:
		op.control(control{f.kind, binary.BigEndian.Uint16(f.payload), binary.BigEndian.Uint16(f.payload[2:])})
	case kindCancel:
		if !op.cancelled {
			op.cancelled = true
			close(op.cancel)
		}
	}
	return nil
}

// control queues what comes before the command has started or while it is being killed.
func (op *operation) control(c control) {
	select {
	case op.controls <- c:
	default: // more than any command waits for: dropped
	}
}

// begin opens an operation. What is wrong with the request is an ERROR of that id, not the end of the connection.
func (c *connection) begin(f frame) error {
	op := &operation{connection: c, id: f.id, cancel: make(chan struct{}), held: int64(len(f.payload)),
		controls: make(chan control, maxControls)}
	op.input.more = make(chan struct{}, 1)
	c.mu.Lock()
	taken, count := c.open[f.id] != nil, len(c.open)
	if !taken {
		c.open[f.id] = op
	}
	c.mu.Unlock()
	if taken {
		return violation("id is open already")
	}
	c.highestID = max(c.highestID, f.id)
	if !c.hold(op.held) || count >= maxOperations {
		op.fail(&Failure{Code: "too_many", Message: "too many operations"})
		return nil
	}
	switch f.kind {
	case kindStart:
		op.beginCommand(f.payload)
	case kindFile:
		op.beginFile(f.payload)
	case kindAttach:
		op.beginAttach(f.payload)
	case kindList:
		op.final(kindEnd, listJSON())
	case kindForget:
		op.forget(f.payload)
	case kindForward:
		op.beginForward(f.payload)
	}
	return nil
}

// hold counts n bytes (negative: given back) against what guests may make the agent keep.
func (c *connection) hold(n int64) bool {
	return c.owner || guestsHold.Add(n) <= guestMemory || n <= 0
}

// final closes the id, and then sends the frame that tells so: the client may use the number again at once.
func (op *operation) final(kind byte, payload []byte) {
	op.mu.Lock()
	delete(op.open, op.id)
	op.mu.Unlock()
	op.dropInput(true)
	op.release()
	op.out.ordered(kind, op.id, payload)
}

// release gives back what the request itself held, once it is no longer needed.
func (op *operation) release() {
	op.hold(-op.held)
	op.held = 0
}

func (op *operation) fail(f *Failure) { op.final(kindError, failureJSON(f)) }

func invalid(message string) *Failure { return &Failure{Code: "invalid", Message: message} }

var errCancelled = &Failure{Code: "cancelled", Message: "the operation was cancelled"}

// isClosed tells whether a channel that only ever is closed has been closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
