package main

import (
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
)

func decodeStarted(f frame) string {
	return strconv.Itoa(int(binary.BigEndian.Uint32(f.payload)))
}

// A tree that leaves its group, its session and its parent, and one sibling that must live.
const escaping = `echo partial; setsid sh -c 'echo $$; (setsid sleep 1000 & echo $!)'; sleep 1000`

func killedTree(c *client, id uint32) {
	c.t.Helper()
	lines := strings.Fields(c.output(id, 1))
	if len(lines) != 3 || lines[0] != "partial" {
		c.t.Fatalf("partial output: %q", lines)
	}
	if alive(lines[2]) {
		c.t.Error("a process of the tree lives after EXITED")
	}
}

func TestTimeoutKillsTheTreeAndKeepsThePartialOutput(t *testing.T) {
	c := agent(t)
	sibling := c.start("sleep 1000")
	id := c.start(escaping, object{"timeout": 1})
	c.exited(id, object{"signal": 9, "timed_out": true, "killed": false})
	killedTree(c, id)
	if c.has(kindExited, sibling) != 0 || !alive(decodeStarted(c.kind(kindStarted, sibling))) {
		t.Error("the sibling was harmed")
	}
}

func TestCancelKillsTheTree(t *testing.T) {
	c := agent(t)
	id := c.start(escaping)
	eventually(t, "the tree stands", func() bool { return strings.Count(c.output(id, 1), "\n") == 3 })
	c.send(kindCancel, id, nil)
	c.send(kindCancel, id, nil)
	c.exited(id, object{"signal": 9, "timed_out": false, "killed": true})
	killedTree(c, id)
}

func TestGraceLetsTheCommandEndItself(t *testing.T) {
	c := agent(t)
	id := c.start("trap 'echo bye; exit 5' TERM; while :; do sleep 0.05; done", object{"timeout": 0.5, "grace": 30})
	c.exited(id, object{"exit_code": 5, "timed_out": true, "killed": false})
	if c.output(id, 1) != "bye\n" {
		t.Errorf("%q", c.output(id, 1))
	}
}

func TestGraceEnds(t *testing.T) {
	c := agent(t)
	id := c.start("trap '' TERM; echo ready; while :; do sleep 0.05; done", object{"timeout": 0.5, "grace": 0.5})
	c.exited(id, object{"signal": 9, "timed_out": true})
}

// The command obeys SIGTERM, its child does not: EXITED waits until the child is gone.
func TestGraceIsForTheWholeTree(t *testing.T) {
	c := agent(t)
	id := c.start("sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done' & wait", object{"timeout": 0.5, "grace": 0.5})
	c.exited(id, object{"signal": 15, "timed_out": true})
	if pid := c.output(id, 1); alive(pid) {
		t.Error("lives:", pid)
	}
}

func TestCancelBeforeTheStart(t *testing.T) {
	c := agent(t)
	var ids []uint32
	for range 300 {
		id := c.start("sleep 1000")
		c.send(kindCancel, id, nil)
		ids = append(ids, id)
	}
	for _, id := range ids {
		f := c.final(id)
		if f.kind == kindError {
			c.check(f, kindError, object{"code": "cancelled"})
		} else {
			c.check(f, kindExited, object{"killed": true, "signal": 9})
		}
	}
}
