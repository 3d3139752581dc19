package main

import "sync"

// ringSize is how much of each output stream of a detached command is kept.
const ringSize = 1 << 20

// ring keeps the last of a stream. Its bytes are counted from the stream's first, whether they are still there or not.
type ring struct {
	over chan struct{} // closed when nothing more comes

	mu      sync.Mutex
	data    []byte // byte n of the stream lies at n % ringSize
	end     int64
	changed chan struct{} // closed at the next change; nil when nobody waits for it
}

func (r *ring) write(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(p) > 0 {
		n := min(len(p), ringSize-len(r.data))
		if n > 0 {
			r.data = append(r.data, p[:n]...)
		} else {
			n = copy(r.data[r.end%ringSize:], p)
		}
		r.end += int64(n)
		p = p[n:]
	}
	r.tell()
}

// finish says that nothing more comes.
func (r *ring) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.over)
	r.tell()
}

func (r *ring) tell() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// bounds are the offset of the first byte that is kept and that after the last.
func (r *ring) bounds() (first, end int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end - int64(len(r.data)), r.end
}

// wait returns a channel that is closed at the next change, nil when there are bytes from the offset on.
func (r *ring) wait(from int64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end > from {
		return nil
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// read copies what there is from the offset on; at is the offset of the first byte that it found.
func (r *ring) read(from int64, p []byte) (at int64, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at = max(from, r.end-int64(len(r.data)))
	for n < len(p) && at+int64(n) < r.end {
		place := (at + int64(n)) % ringSize
		n += copy(p[n:], r.data[place:min(int64(len(r.data)), place+r.end-at-int64(n))])
	}
	return at, n
}
