package main

import (
	"io"
	"sync/atomic"
	"time"
)

const (
	defaultLease = 600 * time.Second
	// After a sandbox was paused the clock has gone on while the client's frames lie unread: look twice.
	secondLook = time.Second
)

var clockStart = time.Now()

// lease ends a connection whose client was not heard for its time. It depends on no other part of the connection.
type lease struct {
	term   atomic.Int64 // nanoseconds, as heard
	heard  atomic.Int64 // since clockStart
	timer  *time.Timer
	expire func()
	warned atomic.Bool
}

func newLease(expire func()) *lease {
	l := &lease{expire: expire}
	l.term.Store(int64(defaultLease))
	l.touch()
	l.timer = time.AfterFunc(defaultLease, l.check)
	return l
}

func (l *lease) touch() { l.heard.Store(int64(time.Since(clockStart))) }

func (l *lease) set(term time.Duration) {
	l.term.Store(int64(term))
	l.timer.Reset(term)
}

func (l *lease) stop() { l.timer.Stop() }

func (l *lease) check() {
	left := time.Duration(l.term.Load()+l.heard.Load()) - time.Since(clockStart)
	switch {
	case left > 0:
		l.warned.Store(false)
		l.timer.Reset(left)
	case !l.warned.Load():
		l.warned.Store(true)
		l.timer.Reset(secondLook)
	default:
		l.expire()
	}
}

// heardReader notes that the client was heard.
type heardReader struct {
	io.Reader
	lease *lease
}

func (r heardReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.lease.touch()
	}
	return n, err
}
