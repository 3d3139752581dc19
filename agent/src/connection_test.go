package main

import (
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHandshake(t *testing.T) {
	c := rawAgent(t, "--socket", "none", "--label", "test")
	hello := decode(t, c.kind(kindAgentHello, 0)) // without waiting for ours
	if hello["protocol"] != 1.0 || hello["owner"] != true || len(hello["boot"].(string)) != 32 {
		t.Error(hello)
	}
	if int(hello["pid"].(float64)) != c.process.Process.Pid || int(hello["uid"].(float64)) != os.Getuid() {
		t.Error(hello)
	}
	c.greet(600)
	c.ping("12345678")
}

func TestVersionMismatch(t *testing.T) {
	c := rawAgent(t, "--socket", "none")
	c.sendJSON(kindHello, 0, object{"protocol": 2, "client": "test", "lease": 600})
	c.check(c.kind(kindFatal, 0), kindFatal, object{"code": "version"})
	c.waitGone()
}

func TestViolationsEndTheConnection(t *testing.T) {
	u32 := binary.BigEndian.AppendUint32
	greeting := []byte(`{"protocol":1,"lease":60}`)
	sleep := []byte(`{"argv":["sleep","1000"],"stdin":true}`)
	hello := slices.Clip(appendFrame(nil, kindHello, 0, greeting)) // clipped: each frame below is a copy of its own
	started := slices.Clip(appendFrame(hello, kindStart, 7, sleep))
	frames := map[string][]byte{
		"no HELLO":           appendFrame(nil, kindPing, 0, make([]byte, 8)),
		"HELLO no JSON":      appendFrame(nil, kindHello, 0, []byte("hello")),
		"short lease":        appendFrame(nil, kindHello, 0, []byte(`{"protocol":1,"lease":1}`)),
		"two HELLOs":         appendFrame(hello, kindHello, 0, greeting),
		"unknown type":       appendFrame(hello, 0x77, 0, nil),
		"type 0":             appendFrame(hello, 0, 0, nil),
		"agent's type":       appendFrame(hello, kindData, 1, []byte("1x")),
		"START with id 0":    appendFrame(hello, kindStart, 0, sleep),
		"PING with id":       appendFrame(hello, kindPing, 1, make([]byte, 8)),
		"short PING":         appendFrame(hello, kindPing, 0, make([]byte, 7)),
		"id twice":           appendFrame(started, kindStart, 7, sleep),
		"never opened":       appendFrame(started, kindCancel, 8, nil),
		"long STDIN":         u32(started, maxData+1),
		"endless STDIN":      append(u32(started, 1<<32-1), kindStdin, 0, 0, 0, 7),
		"long START":         append(u32(hello, maxRequest+1), kindStart, 0, 0, 0, 1),
		"STDIN past its end": appendFrame(appendFrame(started, kindStdinEOF, 7, nil), kindStdin, 7, []byte("x")),
		"credit of stream 3": appendFrame(started, kindCredit, 7, u32([]byte{3}, 1)),
		"credit of stream 1": appendFrame(hello, kindCredit, 0, u32([]byte{1}, 1)),
		"signal 0":           appendFrame(started, kindSignal, 7, []byte{0, 0}),
		"scope 3":            appendFrame(started, kindSignal, 7, []byte{1, 3}),
	}
	frames["long STDIN"] = append(frames["long STDIN"], kindStdin, 0, 0, 0, 7)
	for name, sent := range frames {
		t.Run(name, func(t *testing.T) {
			c := rawAgent(t, "--socket", "none")
			c.in.Write(sent)
			c.check(c.kind(kindFatal, 0), kindFatal, object{"code": "violation"})
			c.waitGone()
		})
	}
}

func TestStdinBeyondCreditIsAViolation(t *testing.T) {
	c := agent(t)
	id := c.start("kill -STOP $$", object{"stdin": true})
	c.kind(kindStarted, id)
	for range 4 { // a pipe and its queue do not hold so much
		c.send(kindStdin, id, make([]byte, maxData))
	}
	c.check(c.kind(kindFatal, 0), kindFatal, object{"code": "violation"})
	c.waitGone()
}

func TestCreditBeyondTheLimitIsAViolation(t *testing.T) {
	c := agent(t)
	for range 257 {
		c.credit(0, 0, 1<<32-1)
	}
	c.check(c.kind(kindFatal, 0), kindFatal, object{"code": "violation"})
}

func TestFramesThatCrossTheFinalFrameAreIgnored(t *testing.T) {
	c := agent(t)
	id := c.start("true", object{"stdin": true})
	c.exited(id, object{"exit_code": 0})
	c.send(kindStdin, id, []byte("late"))
	c.send(kindSignal, id, []byte{9, 2})
	c.send(kindResize, id, make([]byte, 4))
	c.send(kindCancel, id, nil)
	c.credit(id, 1, 5)
	c.ping("abcdefgh")
	c.nextID = id // the number may be used again
	c.start("true")
	eventually(t, "the id was used twice", func() bool { return c.has(kindExited, id) == 2 })
}

func TestEndOfTheOwnerKillsAll(t *testing.T) {
	for name, end := range map[string]func(c *client){
		"EOF":     func(c *client) { c.in.Close() },
		"SIGTERM": func(c *client) { c.process.Process.Signal(syscall.SIGTERM) },
		"violation": func(c *client) {
			c.send(0x70, 0, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := agent(t)
			id := c.start(escaping)
			eventually(t, "the tree stands", func() bool { return strings.Count(c.output(id, 1), "\n") == 3 })
			end(c)
			c.waitGone()
			if pid := strings.Fields(c.output(id, 1))[2]; alive(pid) {
				t.Error("lives:", pid)
			}
			if code := c.process.ProcessState.ExitCode(); code != 0 {
				t.Error("exit code", code)
			}
		})
	}
}

// stalled is an agent whose output nobody reads, and whose writer therefore is blocked.
func stalled(t *testing.T, lease string) (process *exec.Cmd, in io.WriteCloser, ended chan struct{}) {
	process = exec.Command(os.Args[0], "serve", "--socket", "none")
	process.Env = append(os.Environ(), "AGENT_UNDER_TEST=1")
	in, _ = process.StdinPipe()
	out, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	process.Stdout = ours
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	ended = make(chan struct{})
	go func() { process.Wait(); close(ended) }()
	t.Cleanup(func() { process.Process.Kill(); <-ended; out.Close() })
	in.Write(appendFrame(nil, kindHello, 0, []byte(`{"protocol":1,"lease":`+lease+`}`)))
	in.Write(appendFrame(nil, kindStart, 1, []byte(`{"argv":["yes"],"credit":[1000000,0]}`)))
	for pinged := 0; pinged < 1<<17; pinged += 17 { // more PONGs than a pipe holds, whatever comes before
		in.Write(appendFrame(nil, kindPing, 0, make([]byte, 8)))
	}
	return process, in, ended
}

func TestBlockedOutputDelaysNoEnd(t *testing.T) {
	_, in, ended := stalled(t, "600")
	in.Close()
	select {
	case <-ended:
	case <-time.After(longEnough):
		t.Fatal("the agent did not exit")
	}
}

func TestLeaseExpiresWhileTheClientDoesNotRead(t *testing.T) {
	_, _, ended := stalled(t, "5")
	select {
	case <-ended:
	case <-time.After(longEnough):
		t.Fatal("the agent did not exit")
	}
}

func TestUnreadFramesAreBounded(t *testing.T) {
	_, in, ended := stalled(t, "600")
	ping := appendFrame(nil, kindPing, 0, make([]byte, 8))
	many := []byte(strings.Repeat(string(ping), 1<<12))
	for range 2 * maxUnread / len(many) {
		if _, err := in.Write(many); err != nil {
			break
		}
	}
	select {
	case <-ended:
	case <-time.After(longEnough):
		t.Fatal("the agent kept what nobody reads")
	}
}

func TestLease(t *testing.T) {
	c := rawAgent(t, "--socket", "none")
	c.greet(5)
	id := c.start("sleep 1000")
	pid := decodeStarted(c.kind(kindStarted, id))
	begun := time.Now()
	for time.Since(begun) < 7*time.Second { // the client lives as long as it is heard
		c.ping("12345678")
		time.Sleep(100 * time.Millisecond)
	}
	c.waitGone()
	if alive(pid) {
		t.Error("the command outlived the lease")
	}
}
