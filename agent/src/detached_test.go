package main

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"strings"
	"syscall"
	"testing"
	"time"
)

func (c *client) attach(name string, more ...object) uint32 {
	c.t.Helper()
	request := object{"command": name, "credit": []int{1 << 30, 1 << 30}}
	for _, m := range more {
		for k, v := range m {
			request[k] = v
		}
	}
	return c.open(kindAttach, request)
}

// detachedList is what LIST says, by name.
func (c *client) detachedList() map[string]object {
	c.t.Helper()
	answer := c.check(c.final(c.open(kindList, object{})), kindEnd, nil)
	all := map[string]object{}
	for _, item := range answer["commands"].([]any) {
		all[item.(object)["command"].(string)] = item.(object)
	}
	return all
}

func TestDetachedCommandOutlivesItsConnection(t *testing.T) {
	c := kept(t, 600)
	id := c.start("echo out; echo err >&2; while ! test -e go; do sleep 0.05; done; echo more; exit 3",
		object{"detach": "build.1", "cwd": t.TempDir()})
	pid := decodeStarted(c.kind(kindStarted, id))
	eventually(t, "output", func() bool { return c.output(id, 1) == "out\n" && c.output(id, 2) == "err\n" })
	folder := "/proc/" + pid + "/cwd"
	c.in.Close()
	g := c.guest()
	g.greet(600)
	item := g.detachedList()["build.1"]
	if item["exited"] != nil || fmt.Sprint(item["pid"]) != pid || !strings.HasPrefix(item["argv"].(string), "/bin/sh -c echo") {
		t.Error(item)
	}
	early := g.attach("build.1", object{"offsets": []int{2, 100}})
	other := c.guest()
	other.greet(600)
	all := other.attach("build.1")
	eventually(t, "both read", func() bool { return g.output(early, 1) == "t\n" && other.output(all, 2) == "err\n" })
	g.exited(g.start("touch "+folder+"/go"), object{"exit_code": 0})
	g.exited(early, object{"exit_code": 3, "killed": false})
	other.exited(all, object{"exit_code": 3})
	if g.output(early, 1) != "t\nmore\n" || g.output(early, 2) != "" || other.output(all, 1) != "out\nmore\n" {
		t.Error(g.output(early, 1), g.output(early, 2), other.output(all, 1))
	}
	late := g.attach("build.1", object{"offsets": []int{4, 0}}) // after its end it is still remembered
	g.exited(late, object{"exit_code": 3})
	if g.output(late, 1) != "more\n" || g.output(late, 2) != "err\n" {
		t.Error(g.output(late, 1), g.output(late, 2))
	}
	item = g.detachedList()["build.1"]
	if fmt.Sprint(item["output"]) != "[0 9 0 4]" || item["exited"].(object)["exit_code"] != 3.0 {
		t.Error(item)
	}
	g.check(g.final(g.open(kindForget, object{"command": "build.1"})), kindEnd, nil)
	g.check(g.final(g.open(kindForget, object{"command": "build.1"})), kindError, object{"code": "not_found"})
	g.check(g.final(g.attach("build.1")), kindError, object{"code": "not_found"})
	if list := g.detachedList(); len(list) != 0 {
		t.Error(list)
	}
	c.process.Process.Signal(syscall.SIGTERM)
	c.waitGone()
}

func TestDetachedCommandsGoWithTheAgent(t *testing.T) {
	c := agent(t)
	pid := decodeStarted(c.kind(kindStarted, c.start("sleep 1000", object{"detach": "a"})))
	c.in.Close()
	c.waitGone()
	if alive(pid) {
		t.Error("lives:", pid)
	}
}

func TestDetachedCommandIsKilledAndSignalledThroughAnyAttachment(t *testing.T) {
	c := agent(t)
	c.start("trap 'echo got' USR1; echo ready; while :; do sleep 0.05; done", object{"detach": "a"})
	first := c.attach("a")
	eventually(t, "it runs", func() bool { return c.output(first, 1) == "ready\n" })
	c.send(kindSignal, first, []byte{byte(syscall.SIGUSR1), 0})
	eventually(t, "the signal", func() bool { return c.output(first, 1) == "ready\ngot\n" })
	g := c.guest()
	g.greet(600)
	second := g.attach("a")
	g.kind(kindStarted, second)
	c.check(c.final(c.open(kindForget, object{"command": "a"})), kindError, object{"code": "running"})
	g.send(kindCancel, second, nil)
	for _, end := range []object{g.exited(second, nil), c.exited(first, nil)} {
		if end["signal"] != float64(syscall.SIGKILL) || end["killed"] != true {
			t.Error(end)
		}
	}
	limited := c.start("sleep 1000", object{"detach": "b", "timeout": 0.1})
	c.exited(limited, object{"timed_out": true})
}

func TestDetachedRequests(t *testing.T) {
	c := agent(t)
	for _, bad := range []object{
		{"detach": ""}, {"detach": "a/b"}, {"detach": strings.Repeat("a", 65)}, {"detach": true},
		{"detach": "a", "stdin": true}, {"detach": "a", "tty": object{"rows": 1, "cols": 1, "term": "x"}},
	} {
		c.check(c.final(c.start("true", bad)), kindError, object{"code": "invalid"})
	}
	c.exited(c.start("true", object{"detach": "a"}), object{"exit_code": 0})
	c.check(c.final(c.start("true", object{"detach": "a"})), kindError, object{"code": "exists"})
	missing := c.open(kindStart, object{"argv": []string{"/none"}, "detach": "b"})
	c.check(c.final(missing), kindError, object{"code": "not_found"})
	for _, bad := range []object{{"offsets": []int{1}}, {"offsets": []int{-1, 0}}, {"credit": []int{1}}, {"offsets": "x"}} {
		c.check(c.final(c.attach("a", bad)), kindError, object{"code": "invalid"})
	}
	if list := c.detachedList(); len(list) != 1 {
		t.Error(list)
	}
}

func TestDetachedCommandsAreForgotten(t *testing.T) {
	c := agent(t)
	for i := range maxEnded + 1 {
		c.exited(c.start("true", object{"detach": fmt.Sprint("c", i)}), object{"exit_code": 0})
	}
	list := c.detachedList()
	if len(list) != maxEnded || list["c0"] != nil || list["c1"] == nil {
		t.Error(len(list), list["c0"])
	}
}

func TestSlowReaderOfADetachedCommandLosesTheOldest(t *testing.T) {
	c := agent(t)
	const lines, size = 400_000, 8
	script := fmt.Sprintf("seq -f %%07.0f %d", lines)
	id := c.open(kindStart, object{"argv": []string{"/bin/sh", "-c", script}, "detach": "a", "credit": []int{80, 0}})
	c.exited(id, object{"exit_code": 0}) // without credit for more
	eventually(t, "the end", func() bool { return c.detachedList()["a"]["exited"] != nil })
	late := c.attach("a", object{"offsets": []int{16, 0}, "credit": []int{0, 0}})
	c.exited(late, object{"exit_code": 0})
	lost := int64(binary.BigEndian.Uint64(c.kind(kindGap, late).payload[1:]))
	if lost != lines*size-ringSize-16 || len(c.output(late, 1)) != ringSize {
		t.Error(lost, len(c.output(late, 1)))
	}
	if out := c.output(late, 1); !strings.HasSuffix(out, fmt.Sprintf("\n%07d\n", lines)) {
		t.Errorf("%q", out[len(out)-20:])
	}
	lost = 0
	c.mu.Lock()
	frames := c.frames
	c.mu.Unlock()
	for _, f := range frames {
		if f.kind == kindGap && f.id == id {
			lost += int64(binary.BigEndian.Uint64(f.payload[1:]))
		}
	}
	if got := int64(len(c.output(id, 1))); got+lost != lines*size || c.output(id, 1)[:16] != "0000001\n0000002\n" {
		t.Error(got, lost)
	}
}

func TestRing(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	whole := make([]byte, 5*ringSize)
	random.Read(whole)
	r := &ring{over: make(chan struct{})}
	for written := 0; written < len(whole); {
		n := min(random.Intn(2*ringSize/3), len(whole)-written)
		r.write(whole[written : written+n])
		written += n
		first, end := r.bounds()
		if end != int64(written) || first != max(0, end-ringSize) {
			t.Fatal(first, end, written)
		}
		from := random.Int63n(end + 1)
		p := make([]byte, random.Intn(ringSize+10)+1)
		at, n := r.read(from, p)
		if at != max(from, first) || int64(n) != min(int64(len(p)), end-at) || string(p[:n]) != string(whole[at:at+int64(n)]) {
			t.Fatal(from, at, n, first, end)
		}
	}
	changed := r.wait(int64(len(whole)))
	if changed == nil || r.wait(int64(len(whole)-1)) != nil {
		t.Fatal("wait")
	}
	r.finish()
	select {
	case <-changed:
	case <-time.After(longEnough):
		t.Fatal("finish told nobody")
	}
}
