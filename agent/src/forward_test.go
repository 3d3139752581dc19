package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand"
	"net"
	"strings"
	"testing"
)

// listenTCP serves connections to a port of this machine, which is the agent's.
func listenTCP(t *testing.T, address string, serve func(*net.TCPConn)) int {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			stream, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer stream.Close()
				serve(stream.(*net.TCPConn))
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

func (c *client) forward(port, credit int) uint32 {
	c.t.Helper()
	return c.open(kindForward, object{"port": port, "credit": []int{credit, 0}})
}

// inputCredit is how much may be sent to an id, all that was sent counted.
func (c *client) inputCredit(id uint32) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := inputCredit
	for _, f := range c.frames {
		if f.kind == kindInputCredit && f.id == id {
			total += int(binary.BigEndian.Uint32(f.payload))
		}
	}
	return total
}

func TestForward(t *testing.T) {
	c := agent(t)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		port := listenTCP(t, address, func(stream *net.TCPConn) {
			all, _ := io.ReadAll(stream) // to the end of what the client sends
			stream.Write(append([]byte("got "), all...))
		})
		id := c.forward(port, 1<<20)
		c.send(kindStdin, id, []byte("some"))
		c.send(kindStdin, id, []byte("thing"))
		c.send(kindStdinEOF, id, nil)
		c.check(c.final(id), kindEnd, nil)
		if got := c.output(id, 1); got != "got something" {
			t.Errorf("%q", got)
		}
	}
}

func TestForwardMuch(t *testing.T) {
	c := agent(t)
	port := listenTCP(t, "127.0.0.1:0", func(stream *net.TCPConn) { io.Copy(stream, stream) })
	id := c.forward(port, 5000)
	whole := make([]byte, 3<<20)
	rand.New(rand.NewSource(1)).Read(whole)
	sent, have := 0, 0
	for have < len(whole) {
		eventually(t, "something moves", func() bool {
			return len(c.output(id, 1)) > have || sent < len(whole) && c.inputCredit(id) > sent
		})
		if n := min(c.inputCredit(id)-sent, len(whole)-sent); n > 0 {
			c.send(kindStdin, id, whole[sent:sent+n])
			if sent += n; sent == len(whole) {
				c.send(kindStdinEOF, id, nil)
			}
		}
		if now := len(c.output(id, 1)); now > have {
			c.credit(id, 1, now-have)
			have = now
		}
	}
	c.check(c.final(id), kindEnd, nil)
	if !bytes.Equal([]byte(c.output(id, 1)), whole) {
		t.Error("not what was sent")
	}
}

// Streams that wait hold no credit of the connection, which others need.
func TestIdleForwardsHoldNoCredit(t *testing.T) {
	c := agent(t)
	port := listenTCP(t, "127.0.0.1:0", func(stream *net.TCPConn) {
		stream.Write([]byte("x"))
		io.Copy(io.Discard, stream)
	})
	var idle []uint32
	for range 20 {
		idle = append(idle, c.forward(port, 1<<30))
	}
	for _, id := range idle {
		eventually(t, "it is open", func() bool { return c.output(id, 1) == "x" })
	}
	id := c.start("head -c 900000 /dev/zero")
	c.exited(id, object{"exit_code": 0})
	for _, id := range idle {
		c.send(kindCancel, id, nil)
		c.check(c.final(id), kindError, object{"code": "cancelled"})
	}
}

func TestForwardThatCannotBe(t *testing.T) {
	c := agent(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	id := c.forward(port, 1)
	c.send(kindStdin, id, []byte("x"))
	c.check(c.final(id), kindError, object{"code": "refused"})
	for _, bad := range []object{{"port": 0}, {"port": 65536}, {"port": "80"}, {}, {"port": 1, "credit": []int{1}}} {
		c.check(c.final(c.open(kindForward, bad)), kindError, object{"code": "invalid"})
	}
	reset := listenTCP(t, "127.0.0.1:0", func(stream *net.TCPConn) {
		io.ReadFull(stream, make([]byte, 1))
		stream.SetLinger(0)
	})
	id = c.forward(reset, 1)
	c.send(kindStdin, id, []byte("x"))
	if end := c.check(c.final(id), kindError, object{"code": "io"}); !strings.Contains(end["message"].(string), "reset") {
		t.Error(end)
	}
}

func TestForwardsEndWithTheirConnection(t *testing.T) {
	c := agent(t)
	ended := make(chan struct{}, 1)
	port := listenTCP(t, "127.0.0.1:0", func(stream *net.TCPConn) {
		stream.Write([]byte("x"))
		io.Copy(io.Discard, stream)
		ended <- struct{}{}
	})
	g := c.guest()
	g.greet(600)
	id := g.forward(port, 100)
	eventually(t, "it is open", func() bool { return g.output(id, 1) == "x" })
	g.in.Close()
	g.waitGone()
	eventually(t, "the server saw the end", func() bool { return len(ended) == 1 })
}
