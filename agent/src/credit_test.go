package main

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

func TestCreditOfAnIdIsRespected(t *testing.T) {
	c := agent(t)
	script := "printf 0123456789; printf 0123456789; read line; printf end"
	id := c.start(script, object{"credit": []int{15, 0}, "stdin": true})
	eventually(t, "the credit is used", func() bool { return len(c.output(id, 1)) == 15 })
	c.ping("aaaaaaaa")
	if n := len(c.output(id, 1)); n != 15 {
		t.Error(n)
	}
	c.credit(id, 1, 1)
	eventually(t, "one byte more", func() bool { return len(c.output(id, 1)) == 16 })
	c.send(kindStdin, id, []byte("\n"))
	c.exited(id, object{"exit_code": 0})
	if c.output(id, 1) != "01234567890123456789end" {
		t.Errorf("what an ended command left waits for no credit: %q", c.output(id, 1))
	}
}

func TestCreditOfTheConnectionIsRespected(t *testing.T) {
	c := agent(t)
	c.hold = true
	var ids [3]uint32
	for i := range ids {
		ids[i] = c.start("head -c 1000000 /dev/zero")
	}
	sum := func() (n int) {
		for _, id := range ids {
			n += len(c.output(id, 1))
		}
		return n
	}
	eventually(t, "the credit is used", func() bool { return sum() == connectionCredit })
	c.ping("aaaaaaaa")
	if n := sum(); n != connectionCredit {
		t.Error(n)
	}
	c.credit(0, 0, 2017000)
	for _, id := range ids {
		if f := c.final(id); f.kind != kindExited || len(c.output(id, 1)) != 1000000 {
			t.Error(f.kind, len(c.output(id, 1)))
		}
	}
}

func TestSlowReaderBesideAFastCommand(t *testing.T) {
	c := agent(t)
	slow := c.start("exec yes", object{"credit": []int{1000, 0}})
	for range 20 {
		c.exited(c.start("echo quick"), object{"exit_code": 0})
	}
	if n := len(c.output(slow, 1)); n != 1000 {
		t.Error(n)
	}
	c.send(kindCancel, slow, nil)
	c.credit(slow, 1, 1<<30) // what lay in the pipe is still sent
	c.exited(slow, object{"signal": 9, "killed": true})
}

func TestStarvedCommandIsKilledAllTheSame(t *testing.T) {
	c := agent(t)
	id := c.start("echo $$; exec yes", object{"credit": []int{0, 0}, "timeout": 3})
	pid := decodeStarted(c.kind(kindStarted, id))
	eventually(t, "the limit killed it", func() bool { return !alive(pid) })
	c.exited(id, object{"timed_out": true}) // with no credit at all
	if !strings.HasPrefix(c.output(id, 1), pid+"\ny\n") {
		t.Errorf("%.20q", c.output(id, 1))
	}
}

func TestWindowServesInTurn(t *testing.T) {
	w := newWindow()
	if w.take(connectionCredit) != connectionCredit || w.take(1) != 0 {
		t.Fatal("take")
	}
	stop := make(chan struct{})
	got := [2]chan int64{make(chan int64, 1), make(chan int64, 1)}
	for i, c := range got {
		go func() { c <- w.await(10, stop, nil) }()
		eventually(t, "it waits", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.waiting) == i+1
		})
	}
	w.add(5, 0)
	w.add(0, 5) // only now there is both
	if n := <-got[0]; n != 5 {
		t.Error(n)
	}
	if w.take(1) != 0 {
		t.Error("took what others wait for")
	}
	close(stop)
	if n := <-got[1]; n != 0 {
		t.Error(n)
	}
	w.add(5, 5)
	if w.take(10) != 5 {
		t.Error("who gave up still has credit")
	}
}

// Whatever their sizes, frames of one id leave in the order in which they were queued, and STARTED ahead of them.
func TestWriterKeepsTheOrder(t *testing.T) {
	var stream bytes.Buffer
	w := newWriter(&stream, newWindow(), func() { t.Error("failed") })
	w.started(1, make([]byte, 4))
	sizes := []int{20, 40000, 5, 70000, 30000, 30000, 33000, 1, maxData - 1}
	for _, n := range sizes {
		w.data(1, 1, getBuffer(int64(n)), n)
	}
	w.ordered(kindExited, 1, []byte("{}"))
	w.finish(nil)
	w.run()
	var kinds []byte
	var got []int
	for rest := stream.Bytes(); len(rest) > 0; {
		n := int(binary.BigEndian.Uint32(rest))
		kinds = append(kinds, rest[4])
		if rest[4] == kindData {
			got = append(got, n-1)
		}
		rest = rest[headerSize+n:]
	}
	if kinds[0] != kindStarted || kinds[len(kinds)-1] != kindExited || !slices.Equal(got, sizes) {
		t.Error(kinds, got)
	}
}
