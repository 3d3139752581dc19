package main

import (
	"os"
	"strings"
	"testing"
)

func TestExec(t *testing.T) {
	c := agent(t)
	id := c.start(`echo out; echo err >&2; exit 7`)
	end := c.exited(id, object{"exit_code": 7, "signal": nil, "timed_out": false, "killed": false, "core": false})
	if end["wall"].(float64) <= 0 || end["max_rss"].(float64) <= 0 {
		t.Error(end)
	}
	if c.output(id, 1) != "out\n" || c.output(id, 2) != "err\n" {
		t.Errorf("%q %q", c.output(id, 1), c.output(id, 2))
	}
	if c.has(kindStarted, id) != 1 {
		t.Error("STARTED did not come once")
	}
}

func TestSignalledAndMissing(t *testing.T) {
	c := agent(t)
	c.exited(c.start(`kill -TERM $$`), object{"exit_code": nil, "signal": 15})
	missing := c.open(kindStart, object{"argv": []string{"no-such-program"}})
	c.check(c.final(missing), kindError, object{"code": "not_found", "errno": 2})
	if c.has(kindStarted, missing) != 0 {
		t.Error("started what is missing")
	}
	c.check(c.final(c.start("true", object{"cwd": "/no/such"})), kindError, object{"code": "cwd"})
}

func TestBinaryArguments(t *testing.T) {
	c := agent(t)
	id := c.open(kindStart, object{"argv": []string{"/bin/sh", "-c", `printf %s "$1$V"`, "sh", "\u00ff\u00e9\n"},
		"env": []string{"V=\u0001\u0080"}, "clear_env": true, "credit": []int{100, 0}})
	c.exited(id, object{"exit_code": 0})
	if got := c.output(id, 1); got != "\xff\xe9\n\x01\x80" {
		t.Errorf("%q", got)
	}
}

func TestStdin(t *testing.T) {
	c := agent(t)
	id := c.start("cat", object{"stdin": true})
	c.send(kindStdin, id, []byte("one "))
	c.send(kindStdin, id, []byte("two"))
	c.send(kindStdinEOF, id, nil)
	c.exited(id, object{"exit_code": 0})
	if c.output(id, 1) != "one two" {
		t.Errorf("%q", c.output(id, 1))
	}
}

func TestStdinIsGivenCreditAsItIsTaken(t *testing.T) {
	c := agent(t)
	id := c.start("wc -c", object{"stdin": true})
	total, allowed, counted := 2<<20, inputCredit, 0
	piece := make([]byte, 1<<16)
	for sent := 0; sent < total; sent += len(piece) {
		for allowed < len(piece) {
			f := c.wait("CREDIT", func() func(f frame) bool {
				at := 0
				return func(f frame) bool {
					if f.kind == kindInputCredit {
						at++
					}
					return at > counted && f.kind == kindInputCredit
				}
			}())
			counted++
			allowed += int(f.payload[1])<<16 | int(f.payload[2])<<8 | int(f.payload[3])
		}
		c.send(kindStdin, id, piece)
		allowed -= len(piece)
	}
	c.send(kindStdinEOF, id, nil)
	c.exited(id, object{"exit_code": 0})
	if strings.TrimSpace(c.output(id, 1)) != "2097152" {
		t.Errorf("%q", c.output(id, 1))
	}
}

func TestStdinOfACommandWithoutIsDroppedAndCredited(t *testing.T) {
	c := agent(t)
	id := c.start("sleep 1000")
	c.send(kindStdin, id, make([]byte, maxData))
	c.kind(kindInputCredit, id)
	c.send(kindStdin, id, make([]byte, maxData))
	c.send(kindCancel, id, nil)
	c.exited(id, object{"signal": 9, "killed": true})
}

func TestClosedStdinIsDropped(t *testing.T) {
	c := agent(t)
	id := c.start("exec <&-; echo closed; sleep 1000", object{"stdin": true})
	c.kind(kindData, id)
	for range 4 {
		before := c.has(kindInputCredit, id)
		c.send(kindStdin, id, make([]byte, maxData))
		eventually(t, "credit came", func() bool { return c.has(kindInputCredit, id) > before })
	}
	c.send(kindCancel, id, nil)
	c.exited(id, object{"killed": true})
}

func TestLargeOutputAndExitOrder(t *testing.T) {
	c := agent(t)
	id := c.start("head -c 8000000 /dev/zero")
	c.exited(id, object{"exit_code": 0})
	if n := len(c.output(id, 1)); n != 8000000 {
		t.Error(n)
	}
}

func TestMerge(t *testing.T) {
	c := agent(t)
	id := c.start("echo a; echo b >&2; echo c", object{"merge": true})
	c.exited(id, object{"exit_code": 0})
	if c.output(id, 1) != "a\nb\nc\n" || c.output(id, 2) != "" {
		t.Errorf("%q", c.output(id, 1))
	}
}

func TestTerminal(t *testing.T) {
	c := agent(t)
	id := c.start("stty size; read line; echo got $line; stty size; cat", object{"tty": object{"rows": 11, "cols": 22, "term": "vt100"}})
	c.send(kindResize, id, []byte{0, 33, 0, 44})
	c.send(kindStdin, id, []byte("hello\nrest"))
	c.send(kindStdinEOF, id, nil)
	c.exited(id, object{"exit_code": 0})
	if got := c.output(id, 1); !strings.Contains(got, "got hello\r\n33 44\r\n") || !strings.HasSuffix(got, "rest") {
		t.Errorf("%q", got)
	}
}

func TestBackgroundChildDoesNotDelayTheEnd(t *testing.T) {
	c := agent(t)
	id := c.start("sleep 1000 & echo $!")
	c.exited(id, object{"exit_code": 0})
	pid := c.output(id, 1)
	if !alive(pid) {
		t.Error("the child in the background did not live on")
	}
	c.in.Close()
	c.waitGone()
	if alive(pid) {
		t.Error("the child in the background outlived the agent")
	}
}

func TestLimitStrikesTheBackgroundToo(t *testing.T) {
	c := agent(t)
	id := c.start("sleep 1000 & echo $!", object{"timeout": 0.5})
	c.exited(id, object{"exit_code": 0, "timed_out": false})
	pid := c.output(id, 1)
	eventually(t, "the limit killed the child in the background", func() bool { return !alive(pid) })
}

// What a child in the background writes after the end is read, so that it does not stall, and dropped.
func TestOutputAfterTheEndIsDropped(t *testing.T) {
	c := agent(t)
	done := t.TempDir() + "/done"
	id := c.start("(head -c 1000000 /dev/zero; touch "+done+"; sleep 1000) & exit 0", object{"credit": []int{10, 0}})
	c.credit(id, 1, 1<<30)
	c.exited(id, object{"exit_code": 0})
	before := len(c.output(id, 1))
	eventually(t, "the child could write", func() bool { _, err := os.Stat(done); return err == nil })
	c.ping("12345678")
	if after := len(c.output(id, 1)); after != before {
		t.Error(before, after)
	}
}

func TestTwoThousandAtOnce(t *testing.T) {
	c := agent(t)
	for range 2000 {
		c.open(kindStart, object{"argv": []string{"/bin/true"}})
	}
	for id := uint32(1); id <= 2000; id++ {
		c.exited(id, object{"exit_code": 0})
	}
}

func TestSignal(t *testing.T) {
	c := agent(t)
	id := c.start("trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.05; done")
	c.kind(kindData, id)
	c.send(kindSignal, id, []byte{10, 0})
	c.exited(id, object{"exit_code": 3, "killed": false})
	id = c.start("sleep 1000 & sleep 1000")
	c.send(kindSignal, id, []byte{9, 2}) // may come before the command has started
	c.exited(id, object{"signal": 9, "killed": true})
}

func TestRequestsThatAreRefused(t *testing.T) {
	c := agent(t)
	for _, request := range []object{
		{"argv": []string{}},
		{"argv": []string{"a\u0000b"}},
		{"argv": []string{"\u0100"}},
		{"argv": []string{"true"}, "env": []string{"novalue"}},
		{"argv": []string{"true"}, "timeout": 0},
		{"argv": []string{"true"}, "grace": -1},
		{"argv": []string{"true"}, "credit": []int64{1 << 41, 0}},
		{"argv": []string{"true"}, "user": object{"gid": 1}},
		{"argv": []string{"true"}, "umask": 01000},
		{"argv": []string{"true"}, "rlimits": object{"nofile": []int{1}}},
		{"argv": 5},
	} {
		c.check(c.final(c.open(kindStart, request)), kindError, object{"code": "invalid"})
	}
	c.send(kindStart, 900, []byte("[]"))
	c.check(c.final(900), kindError, object{"code": "invalid"})
}

func TestUserByNumberAlone(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root is needed to be somebody else")
	}
	c := agent(t)
	for user, want := range map[int]string{54321: "54321 54321\n", 0: "0 0\n"} { // without and with a line in passwd
		id := c.start("echo $(id -u) $(id -g)", object{"user": object{"uid": user}})
		c.exited(id, object{"exit_code": 0})
		if got := c.output(id, 1); got != want {
			t.Errorf("%q", got)
		}
	}
}
