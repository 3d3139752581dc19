package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const longEnough = 60 * time.Second

// raceFound is the status with which a program ends that the race detector has complained about.
const raceFound = 66

// TestMain lets the test program be the agent: tests talk to a real one over its stdio.
func TestMain(m *testing.M) {
	if os.Getenv("AGENT_UNDER_TEST") != "" {
		os.Unsetenv("AGENT_UNDER_TEST")
		main()
		return
	}
	os.Exit(m.Run())
}

// client is the other side of a connection, and checks what PROTOCOL.md says about every frame it gets.
type client struct {
	t       *testing.T
	process *exec.Cmd
	in      io.WriteCloser
	socket  string
	gone    chan struct{}

	mu     sync.Mutex
	frames []frame
	change chan struct{}
	closed bool
	hold   bool // give no connection credit
	nextID uint32

	commands, running map[uint32]bool
}

// agent starts an agent and greets it.
func agent(t *testing.T) *client {
	c := rawAgent(t, "--socket", filepath.Join(t.TempDir(), "run", "agent.sock"))
	c.greet(600)
	return c
}

func rawAgent(t *testing.T, options ...string) *client {
	c := spawn(t, nil, append([]string{"serve"}, options...)...)
	for i, o := range options {
		if o == "--socket" {
			c.socket = options[i+1]
		}
	}
	return c
}

// guest joins the agent of owner by `connect`.
func (c *client) guest() *client {
	return spawn(c.t, nil, "connect", "--socket", c.socket, "--wait", "30")
}

func spawn(t *testing.T, files []*os.File, args ...string) *client {
	t.Helper()
	process := exec.Command(os.Args[0], args...)
	process.Env = append(os.Environ(), "AGENT_UNDER_TEST=1")
	process.Stderr = os.Stderr
	process.ExtraFiles = files
	in, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, process: process, in: in, gone: make(chan struct{}), change: make(chan struct{}, 1), nextID: 1}
	go c.collect(bufio.NewReaderSize(out, 1<<16))
	t.Cleanup(func() {
		in.Close()
		select {
		case <-c.gone:
		case <-time.After(longEnough):
			process.Process.Kill()
			t.Error("the agent did not exit")
		}
	})
	return c
}

func (c *client) collect(in io.Reader) {
	for {
		var header [headerSize]byte
		if _, err := io.ReadFull(in, header[:]); err != nil {
			break
		}
		f := frame{header[4], binary.BigEndian.Uint32(header[5:]), make([]byte, binary.BigEndian.Uint32(header[:]))}
		if _, err := io.ReadFull(in, f.payload); err != nil {
			break
		}
		c.mu.Lock()
		hold := c.hold
		c.checkOrder(f)
		c.frames = append(c.frames, f)
		c.mu.Unlock()
		if f.kind == kindData && !hold {
			c.credit(0, 0, len(f.payload)-1)
		}
		c.tell()
	}
	c.process.Wait()
	if c.process.ProcessState.ExitCode() == raceFound {
		c.t.Error("the race detector found something in the agent: see above")
	}
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	close(c.gone)
	c.tell()
}

// checkOrder is what every client relies on: STARTED, then output, then one final frame.
func (c *client) checkOrder(f frame) {
	if c.running == nil {
		c.running = map[uint32]bool{}
	}
	switch {
	case f.kind == kindStarted && c.running[f.id]:
		c.t.Errorf("second STARTED of id %d", f.id)
	case f.kind == kindStarted:
		c.running[f.id] = true
	case f.kind == kindData && c.commands[f.id] && !c.running[f.id]:
		c.t.Errorf("output of id %d, which is not running", f.id)
	case f.kind == kindExited && !c.running[f.id]:
		c.t.Errorf("EXITED of id %d, which is not running", f.id)
	case isFinal(f):
		delete(c.running, f.id)
	}
}

func (c *client) tell() {
	select {
	case c.change <- struct{}{}:
	default:
	}
}

// send sends a frame. The stream may be closed already: what the agent says then is what the test looks at.
func (c *client) send(kind byte, id uint32, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.Write(appendFrame(nil, kind, id, payload))
}

func (c *client) sendJSON(kind byte, id uint32, value any) {
	c.t.Helper()
	payload, err := json.Marshal(value)
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(kind, id, payload)
}

type object = map[string]any

func (c *client) greet(lease float64) {
	c.sendJSON(kindHello, 0, object{"protocol": 1, "client": "test", "lease": lease})
}

func (c *client) credit(id uint32, stream byte, n int) {
	c.send(kindCredit, id, binary.BigEndian.AppendUint32([]byte{stream}, uint32(n)))
}

func (c *client) open(kind byte, request object) uint32 {
	c.t.Helper()
	id := c.nextID
	c.nextID++
	c.mu.Lock()
	if c.commands == nil {
		c.commands = map[uint32]bool{}
	}
	c.commands[id] = kind == kindStart || kind == kindAttach
	c.mu.Unlock()
	c.sendJSON(kind, id, request)
	return id
}

// start runs a script of sh with plenty of credit.
func (c *client) start(script string, more ...object) uint32 {
	c.t.Helper()
	request := object{"argv": []string{"/bin/sh", "-c", script}, "credit": []int{1 << 30, 1 << 30}}
	for _, m := range more {
		for k, v := range m {
			request[k] = v
		}
	}
	return c.open(kindStart, request)
}

// file runs a file operation to its end.
func (c *client) file(request object) frame {
	c.t.Helper()
	return c.final(c.open(kindFile, request))
}

// wait returns the first frame, of all that ever came, that the condition picks.
func (c *client) wait(what string, pick func(f frame) bool) frame {
	c.t.Helper()
	deadline := time.After(longEnough)
	for seen := 0; ; {
		c.mu.Lock()
		frames, closed := c.frames, c.closed
		c.mu.Unlock()
		for ; seen < len(frames); seen++ {
			if pick(frames[seen]) {
				return frames[seen]
			}
		}
		if closed {
			c.t.Fatalf("the stream ended before %s came; frames: %s", what, describeFrames(frames))
		}
		select {
		case <-c.change:
		case <-deadline:
			c.t.Fatalf("%s did not come; frames: %s", what, describeFrames(frames))
		}
	}
}

func describeFrames(frames []frame) string {
	var b strings.Builder
	for _, f := range frames[max(0, len(frames)-20):] {
		fmt.Fprintf(&b, "[%#x id %d %.100q] ", f.kind, f.id, f.payload)
	}
	return b.String()
}

func isFinal(f frame) bool { return f.kind == kindExited || f.kind == kindError || f.kind == kindEnd }

func (c *client) final(id uint32) frame {
	c.t.Helper()
	return c.wait("the final frame of "+strconv.Itoa(int(id)), func(f frame) bool { return f.id == id && isFinal(f) })
}

func (c *client) kind(kind byte, id uint32) frame {
	c.t.Helper()
	return c.wait(fmt.Sprintf("frame %#x", kind), func(f frame) bool { return f.kind == kind && f.id == id })
}

// has counts the frames of a kind and id that came so far.
func (c *client) has(kind byte, id uint32) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if f.kind == kind && f.id == id {
			n++
		}
	}
	return n
}

// output is what came on a stream so far.
func (c *client) output(id uint32, stream byte) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, f := range c.frames {
		if f.kind == kindData && f.id == id && f.payload[0] == stream {
			b.Write(f.payload[1:])
		}
	}
	return b.String()
}

// ping returns after the agent has handled everything that was sent before.
func (c *client) ping(token string) {
	c.t.Helper()
	c.send(kindPing, 0, []byte(token))
	c.wait("PONG", func(f frame) bool { return f.kind == kindPong && string(f.payload) == token })
}

func (c *client) waitGone() {
	c.t.Helper()
	select {
	case <-c.gone:
	case <-time.After(longEnough):
		c.t.Fatal("the stream did not end")
	}
}

func decode(t *testing.T, f frame) object {
	t.Helper()
	var o object
	if err := json.Unmarshal(f.payload, &o); err != nil {
		t.Fatalf("%q: %v", f.payload, err)
	}
	return o
}

// exited checks how a command ended.
func (c *client) exited(id uint32, want object) object {
	c.t.Helper()
	return c.check(c.final(id), kindExited, want)
}

func (c *client) check(f frame, kind byte, want object) object {
	c.t.Helper()
	if f.kind != kind {
		c.t.Fatalf("final frame %#x %s", f.kind, f.payload)
	}
	got := decode(c.t, f)
	for key, value := range want {
		if n, ok := value.(int); ok {
			value = float64(n)
		}
		if got[key] != value {
			c.t.Fatalf("%s is %v, not %v: %s", key, got[key], value, f.payload)
		}
	}
	return got
}

// eventually polls a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(longEnough); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not so: " + what)
		}
	}
}

// alive tells whether a process runs; the dead that nobody has waited for yet do not.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/stat")
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}
