package main

import (
	"io"
	"sync"
	"time"
)

const (
	smallBuffer = 4096
	largeBuffer = headerSize + maxData
	dataHeader  = headerSize + 1 // and the stream byte
	// Frames other than DATA need no credit. A client that leaves more than this unread is gone for us.
	maxUnread = 16 << 20
	// STARTED waits this long for company: a short command then costs one write, and wakes its client once.
	startedDelay = time.Millisecond
)

var (
	smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallBuffer); return &b }}
	largeBuffers = sync.Pool{New: func() any { b := make([]byte, largeBuffer); return &b }}
)

// getBuffer returns a pooled buffer for a DATA frame of up to n bytes.
func getBuffer(n int64) *[]byte {
	if n <= smallBuffer-dataHeader {
		return smallBuffers.Get().(*[]byte)
	}
	return largeBuffers.Get().(*[]byte)
}

func putBuffer(b *[]byte) {
	if len(*b) == smallBuffer {
		smallBuffers.Put(b)
	} else {
		largeBuffers.Put(b)
	}
}

// chunk is a frame that keeps its place among the output.
type chunk struct {
	frame  []byte
	pooled *[]byte // what frame lies in, for DATA
}

// writer sends the frames of one connection. Queueing never waits: DATA comes within the room of the window, and
// the rest is bounded by maxUnread.
type writer struct {
	to     io.Writer
	window *window
	fail   func() // called once when the client cannot be written to any more
	wake   chan struct{}
	done   chan struct{} // closed when nothing will be written any more

	mu      sync.Mutex
	control []byte  // may overtake output
	spare   []byte  // the writer's second buffer for control
	queue   []chunk // output, and what must not overtake it
	unread  int     // bytes in control and of the frames in queue that are no DATA
	last    bool    // nothing is accepted any more
	flush   *time.Timer
	delayed bool
}

func newWriter(to io.Writer, w *window, fail func()) *writer {
	return &writer{to: to, window: w, fail: fail, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func (w *writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// urgent queues a frame ahead of all output.
func (w *writer) urgent(kind byte, id uint32, payload []byte) {
	w.mu.Lock()
	w.account(headerSize + len(payload))
	w.control = appendFrame(w.control, kind, id, payload)
	w.mu.Unlock()
	w.poke()
}

// started queues a frame that is sent with the next one, or after startedDelay.
func (w *writer) started(id uint32, payload []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.account(headerSize + len(payload))
	w.control = appendFrame(w.control, kindStarted, id, payload)
	if w.delayed {
		return
	}
	w.delayed = true
	if w.flush == nil {
		w.flush = time.AfterFunc(startedDelay, w.poke)
	} else {
		w.flush.Reset(startedDelay)
	}
}

// ordered queues a frame behind all output that was queued before.
func (w *writer) ordered(kind byte, id uint32, payload []byte) {
	w.mu.Lock()
	if !w.last {
		w.account(headerSize + len(payload))
		w.queue = append(w.queue, chunk{frame: appendFrame(nil, kind, id, payload)})
	}
	w.mu.Unlock()
	w.poke()
}

// data queues n bytes of output that lie in b from dataHeader on, and takes b over.
func (w *writer) data(id uint32, stream byte, b *[]byte, n int) {
	appendHeader((*b)[:0], kindData, id, 1+n)
	(*b)[headerSize] = stream
	w.mu.Lock()
	w.queue = append(w.queue, chunk{(*b)[:dataHeader+n], b})
	w.mu.Unlock()
	w.poke()
}

// finish queues FATAL, if there is any, and lets the writer end after what is queued.
func (w *writer) finish(fatal *Failure) {
	if fatal != nil {
		w.ordered(kindFatal, 0, failureJSON(fatal))
	}
	w.mu.Lock()
	w.last = true
	w.mu.Unlock()
	w.poke()
}

func (w *writer) account(n int) {
	w.unread += n
	if w.unread > maxUnread && !w.last {
		w.last = true
		go w.fail()
	}
}

// run writes until finish was called or the client cannot be written to.
func (w *writer) run() {
	defer close(w.done)
	var batch []byte // small frames are gathered for one write
	for {
		control, chunks, last := w.next()
		if len(control) == 0 && len(chunks) == 0 {
			if last {
				return
			}
			<-w.wake
			continue
		}
		var err error
		if batch, err = w.write(batch[:0], control, chunks); err != nil {
			w.fail()
			return
		}
	}
}

// next takes the control frames, and of the queue not so much that the next control frames wait long.
func (w *writer) next() (control []byte, chunks []chunk, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.delayed {
		w.flush.Stop()
		w.delayed = false
	}
	control = w.control
	w.unread -= len(control)
	w.control = w.spare[:0]
	w.spare = nil
	if cap(control) <= 1<<16 {
		w.spare = control
	}
	n, bytes := 0, 0
	for n < len(w.queue) && bytes < maxData {
		bytes += len(w.queue[n].frame)
		if w.queue[n].pooled == nil {
			w.unread -= len(w.queue[n].frame)
		}
		n++
	}
	chunks = w.queue[:n:n]
	if w.queue = w.queue[n:]; len(w.queue) == 0 {
		w.queue = nil
	}
	return control, chunks, w.last
}

func (w *writer) write(batch, control []byte, chunks []chunk) ([]byte, error) {
	batch = append(batch, control...)
	var room int64
	for _, c := range chunks {
		large := len(c.frame) > 1<<15
		if len(batch) > 0 && (large || len(batch)+len(c.frame) > 1<<16) {
			if _, err := w.to.Write(batch); err != nil {
				return nil, err
			}
			batch = batch[:0]
		}
		if large {
			if _, err := w.to.Write(c.frame); err != nil {
				return nil, err
			}
		} else {
			batch = append(batch, c.frame...)
		}
		if c.pooled != nil {
			room += int64(len(c.frame) - dataHeader)
			putBuffer(c.pooled)
		}
	}
	if len(batch) > 0 {
		if _, err := w.to.Write(batch); err != nil {
			return nil, err
		}
	}
	if room > 0 {
		w.window.add(0, room)
	}
	if cap(batch) > 1<<17 {
		batch = nil
	}
	return batch, nil
}
