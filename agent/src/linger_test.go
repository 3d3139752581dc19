package main

import (
	"path/filepath"
	"syscall"
	"testing"
)

// kept starts an agent whose owner wants it to linger.
func kept(t *testing.T, linger float64) *client {
	c := rawAgent(t, "--socket", filepath.Join(t.TempDir(), "run", "agent.sock"))
	c.sendJSON(kindHello, 0, object{"protocol": 1, "client": "test", "lease": 600, "linger": linger})
	return c
}

func TestLingers(t *testing.T) {
	c := kept(t, 600)
	id := c.start("sleep 1000")
	pid := decodeStarted(c.kind(kindStarted, id))
	boot := decode(t, c.kind(kindAgentHello, 0))["boot"]
	c.in.Close()
	eventually(t, "the owner's command went with its connection", func() bool { return !alive(pid) })
	for range 2 { // and it goes on lingering after a guest
		g := c.guest()
		g.greet(600)
		if hello := decode(t, g.kind(kindAgentHello, 0)); hello["boot"] != boot || hello["owner"] != false {
			t.Error(hello)
		}
		g.exited(g.start("true"), object{"exit_code": 0})
		g.in.Close()
		g.waitGone()
	}
	c.process.Process.Signal(syscall.SIGTERM)
	c.waitGone()
}

func TestEndsAfterLingering(t *testing.T) {
	c := kept(t, 0.1)
	c.ping("12345678")
	g := c.guest()
	g.greet(600)
	g.kind(kindAgentHello, 0)
	c.in.Close()
	// However long the guest stays, the agent does; its own time begins when the guest has gone.
	g.exited(g.start("sleep 0.5"), object{"exit_code": 0})
	g.ping("12345678")
	g.in.Close()
	c.waitGone()
	if c.process.ProcessState.ExitCode() != 0 {
		t.Error(c.process.ProcessState)
	}
}

func TestGuestsDoNotMakeItLinger(t *testing.T) {
	c := agent(t)
	c.ping("12345678")
	g := c.guest()
	g.sendJSON(kindHello, 0, object{"protocol": 1, "client": "test", "linger": 600})
	g.ping("12345678")
	c.in.Close()
	c.waitGone()
	g.waitGone()
}

func TestLingerOutOfRange(t *testing.T) {
	c := kept(t, -1)
	c.check(c.kind(kindFatal, 0), kindFatal, object{"code": "violation"})
	c.waitGone()
}

func TestLingersAfterTheOwnersLease(t *testing.T) {
	c := rawAgent(t, "--socket", filepath.Join(t.TempDir(), "run", "agent.sock"))
	c.sendJSON(kindHello, 0, object{"protocol": 1, "client": "test", "lease": 5, "linger": 600})
	c.check(c.kind(kindFatal, 0), kindFatal, object{"code": "lease"})
	late := c.start("true") // the client comes back to a stream that is over
	g := c.guest()
	g.greet(600)
	g.exited(g.start("true"), object{"exit_code": 0})
	if c.has(kindError, late)+c.has(kindStarted, late) != 0 {
		t.Error("a frame of a connection that has ended was answered")
	}
	g.in.Close()
	g.waitGone()
	c.process.Process.Signal(syscall.SIGTERM)
	c.waitGone()
}
