package main

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	maxCredit        = 1 << 40
	connectionCredit = 1<<20 - 1<<16
	inputCredit      = 262144
)

// allowance is the credit of one stream of one operation. One goroutine uses it, the connection's reader adds to it.
type allowance struct {
	bytes atomic.Int64
	more  chan struct{}
}

func newAllowance(first int64) *allowance {
	a := &allowance{more: make(chan struct{}, 1)}
	a.bytes.Store(first)
	return a
}

func (a *allowance) add(n int64) error {
	if a.bytes.Add(n) > maxCredit {
		return violation("credit above 2^40")
	}
	select {
	case a.more <- struct{}{}:
	default:
	}
	return nil
}

// setCredit takes the first credit of a request.
func (op *operation) setCredit(credit []int64) *Failure {
	first := [2]int64{}
	if credit != nil && len(credit) != 2 {
		return invalid("credit is a list of two")
	}
	copy(first[:], credit)
	for i, n := range first {
		if n < 0 || n > maxCredit {
			return invalid("credit out of range")
		}
		op.output[i] = newAllowance(n)
	}
	return nil
}

// window is what a connection can still take: the client's credit and the room in the queue of its writer.
// Who has to wait is served in turn, so that a busy stream cannot starve another.
type window struct {
	mu      sync.Mutex
	given   int64
	room    int64
	waiting []*waiter
}

type waiter struct {
	most    int64
	granted chan int64
}

func newWindow() *window { return &window{given: connectionCredit, room: connectionCredit} }

// take returns up to most bytes, 0 when one has to wait.
func (w *window) take(most int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) > 0 {
		return 0
	}
	return w.cut(most)
}

// await waits its turn and returns what it got, 0 when one of the channels was closed before.
func (w *window) await(most int64, stop, ended <-chan struct{}) int64 {
	me := &waiter{most, make(chan int64, 1)}
	w.mu.Lock()
	w.waiting = append(w.waiting, me)
	w.serve()
	w.mu.Unlock()
	select {
	case n := <-me.granted:
		return n
	case <-stop:
	case <-ended:
	}
	w.mu.Lock()
	w.waiting = slices.DeleteFunc(w.waiting, func(other *waiter) bool { return other == me })
	w.mu.Unlock()
	select {
	case n := <-me.granted:
		w.add(n, n)
	default:
		w.add(0, 0) // the next may be smaller, or this one stood in its way
	}
	return 0
}

// add gives credit (from the client) and room (bytes that were written) back.
func (w *window) add(given, room int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.given += given
	w.room += room
	if w.given > maxCredit {
		return violation("credit above 2^40")
	}
	w.serve()
	return nil
}

func (w *window) serve() {
	for len(w.waiting) > 0 {
		n := w.cut(w.waiting[0].most)
		if n == 0 {
			return
		}
		w.waiting[0].granted <- n
		w.waiting = w.waiting[1:]
	}
}
