package main

import (
	"encoding/binary"
	"sync"
)

// attachment sends what a detached command prints to one operation, and tells its end.
type attachment struct {
	*operation
	to *background
	at [2]int64 // offset of the next byte of each stream
}

func (op *operation) beginAttach(payload []byte) {
	var request struct {
		Command byteString
		Offsets []int64
		Credit  []int64
	}
	bg, failed := named(payload, &request, &request.Command)
	if failed == nil {
		failed = op.setCredit(request.Credit)
	}
	var at [2]int64
	if request.Offsets != nil && len(request.Offsets) != 2 {
		failed = invalid("offsets is a list of two")
	}
	copy(at[:], request.Offsets)
	if failed == nil && (at[0] < 0 || at[1] < 0) {
		failed = invalid("offset out of range")
	}
	if failed != nil {
		op.fail(failed)
		return
	}
	op.dropInput(false)
	op.attach(bg, at)
}

// attach is called by the connection's reader: no SIGNAL comes before it.
func (op *operation) attach(bg *background, at [2]int64) {
	op.controls = bg.op.controls
	op.release()
	go (&attachment{op, bg, at}).run()
}

func (a *attachment) run() {
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-a.cancel:
			a.to.stop()
		case <-done:
		}
	}()
	select {
	case <-a.to.started:
	case <-a.ended:
		return
	}
	if a.to.failed != nil {
		a.fail(a.to.failed)
		return
	}
	var pid [4]byte
	binary.BigEndian.PutUint32(pid[:], uint32(a.to.pid))
	a.out.started(a.id, pid[:])
	var streams sync.WaitGroup
	for i := range a.at {
		streams.Add(1)
		go func() {
			defer streams.Done()
			for a.send(i) {
			}
		}()
	}
	streams.Wait()
	select {
	case <-a.to.over:
		a.final(kindExited, a.to.exited)
	case <-a.ended:
	}
}

// send sends one piece of a stream, or waits for what it lacks; false at the end of the stream or of the connection.
// The command does not wait for it: what the ring has lost before it was sent is told by GAP.
func (a *attachment) send(i int) bool {
	ring, credit := &a.to.output[i], a.output[i]
	over := isClosed(ring.over)
	if changed := ring.wait(a.at[i]); changed != nil {
		if over {
			return false
		}
		select {
		case <-changed:
		case <-a.ended:
			return false
		}
		return true
	}
	most := min(credit.bytes.Load(), maxData-1)
	if over {
		// As with other commands, the end does not wait for a reader who may never come.
		_, end := ring.bounds()
		most = min(end-a.at[i], maxData-1)
	}
	if most <= 0 {
		select {
		case <-credit.more:
		case <-ring.over:
		case <-a.ended:
			return false
		}
		return true
	}
	granted := a.window.await(most, nil, a.ended)
	if granted == 0 {
		return false
	}
	buffer := getBuffer(granted)
	at, n := ring.read(a.at[i], (*buffer)[dataHeader:dataHeader+granted])
	a.window.add(granted-int64(n), granted-int64(n))
	if lost := at - a.at[i]; lost > 0 {
		a.out.ordered(kindGap, a.id, binary.BigEndian.AppendUint64([]byte{byte(i + 1)}, uint64(lost)))
	}
	credit.bytes.Add(-int64(n))
	a.at[i] = at + int64(n)
	a.out.data(a.id, byte(i+1), buffer, n)
	return true
}
