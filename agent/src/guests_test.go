package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestGuest(t *testing.T) {
	c := agent(t)
	theirs := c.start("sleep 1000")
	g := c.guest()
	g.greet(600)
	hello, own := decode(t, g.kind(kindAgentHello, 0)), decode(t, c.kind(kindAgentHello, 0))
	if hello["owner"] != false || hello["boot"] != own["boot"] {
		t.Error(hello, own)
	}
	id := g.start("sleep 1000 & echo $!") // the same number as the owner's
	g.exited(id, object{"exit_code": 0})
	pid := g.output(id, 1)
	running := g.start("sleep 1000")
	g.kind(kindStarted, running)
	if !alive(pid) {
		t.Error("background child")
	}
	g.in.Close()
	g.waitGone() // connect exits when its commands are gone
	if alive(pid) || alive(decodeStarted(g.kind(kindStarted, running))) {
		t.Error("a guest's command outlived its connection")
	}
	if !alive(decodeStarted(c.kind(kindStarted, theirs))) || c.has(kindExited, theirs) != 0 {
		t.Error("the owner's command was harmed")
	}
}

func TestGuestsViolationEndsTheGuestOnly(t *testing.T) {
	c := agent(t)
	g := c.guest()
	g.send(0x70, 0, nil)
	g.check(g.kind(kindFatal, 0), kindFatal, object{"code": "violation"})
	g.waitGone()
	c.ping("12345678")
}

func TestGuestsEndWithTheOwner(t *testing.T) {
	c := agent(t)
	g := c.guest()
	g.greet(600)
	id := g.start("sleep 1000")
	pid := decodeStarted(g.kind(kindStarted, id))
	c.in.Close()
	c.waitGone()
	g.waitGone()
	if alive(pid) {
		t.Error("lives:", pid)
	}
	if _, err := os.Stat(c.socket); err == nil {
		t.Error("the socket was left behind")
	}
}

func TestSocketIsForItsUserOnly(t *testing.T) {
	c := agent(t)
	c.ping("12345678")
	for path, mode := range map[string]os.FileMode{c.socket: 0o600, filepath.Dir(c.socket): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Error(path, info, err)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("another user is needed to try")
	}
	// Even when the file modes are lost, another user is turned away by who it is. The client goes by the open
	// folder's descriptor path, since the test's own folders are closed to others.
	name := "@openrt-test-" + filepath.Base(filepath.Dir(filepath.Dir(c.socket)))
	other := rawAgent(t, "--socket", name)
	other.greet(600)
	other.ping("12345678")
	program := "/tmp/openrt-agent-test-" + name[len("@openrt-test-"):]
	data, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(program)
	join := func(uid uint32) error {
		process := exec.Command(program, "connect", "--socket", name)
		process.Dir = "/"
		process.Env = []string{"AGENT_UNDER_TEST=1"}
		process.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		in, _ := process.StdinPipe()
		out, _ := process.StdoutPipe()
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		defer process.Wait()
		defer in.Close()
		_, err := out.Read(make([]byte, 1)) // HELLO
		return err
	}
	if err := join(0); err != nil {
		t.Error("root was turned away:", err)
	}
	if err := join(12345); err == nil {
		t.Error("another user joined")
	}
}

func TestGuestsAreCounted(t *testing.T) {
	c := agent(t)
	var all []*client
	for range maxConnections - 1 {
		g := c.guest()
		g.greet(600)
		all = append(all, g)
	}
	for _, g := range all {
		g.ping("12345678")
	}
	late := c.guest()
	late.check(late.kind(kindFatal, 0), kindFatal, object{"code": "too_many"})
	late.waitGone()
	all[0].in.Close()
	all[0].waitGone()
	eventually(t, "there is room again", func() bool {
		g := c.guest()
		defer g.in.Close()
		return g.wait("a word", func(frame) bool { return true }).kind == kindAgentHello
	})
}

func TestInheritedSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	socket, err := bindSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	c := spawn(t, []*os.File{socket}, "serve", "--socket", "fd:3")
	socket.Close()
	c.socket = path
	c.greet(600)
	g := c.guest()
	g.greet(600)
	id := g.start("ls -l /proc/$$/fd")
	g.exited(id, object{"exit_code": 0})
	if strings.Contains(g.output(id, 1), "socket:") {
		t.Error("a command inherited the socket:", g.output(id, 1))
	}
	plain, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	c = spawn(t, []*os.File{plain}, "serve", "--socket", "fd:3") // no socket: no guests, but an agent
	c.greet(600)
	c.ping("12345678")
}

func TestNoOtherSocketThanTheOneAskedFor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	path := filepath.Join(file, "run", "agent.sock")
	if socket, err := listen(path); err == nil {
		t.Error("listens on", socket.Name())
	}
	if _, err := dialAgent(path); err == nil {
		t.Error("joined some agent")
	}
}

func TestForeignFolderIsNotUsed(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "run")
	os.Mkdir(folder, 0o777)
	os.Chmod(folder, 0o777)
	if _, err := listenFile(filepath.Join(folder, "agent.sock")); err == nil {
		t.Error("a folder where others write was used")
	}
}

func TestOwnerThroughTheSocket(t *testing.T) {
	entry := rawAgent(t, "--socket", filepath.Join(t.TempDir(), "run", "agent.sock"), "--owner", "socket")
	entry.in.Close() // its own streams mean nothing
	owner := entry.guest()
	owner.greet(600)
	id := owner.start("sleep 1000")
	pid := decodeStarted(owner.kind(kindStarted, id))
	if hello := decode(t, owner.kind(kindAgentHello, 0)); hello["owner"] != true {
		t.Error(hello)
	}
	guest := entry.guest()
	guest.greet(600)
	if hello := decode(t, guest.kind(kindAgentHello, 0)); hello["owner"] != false {
		t.Error(hello)
	}
	guest.in.Close()
	guest.waitGone()
	owner.ping("12345678")
	owner.in.Close()
	owner.waitGone()
	entry.waitGone()
	if alive(pid) {
		t.Error("lives:", pid)
	}
}

func TestOwnerThatNeverComes(t *testing.T) {
	for _, c := range []struct {
		wait   string
		signal bool
	}{{"0.2", false}, {"600", true}} {
		entry := rawAgent(t, "--socket", filepath.Join(t.TempDir(), "run", "agent.sock"), "--owner", "socket",
			"--wait", c.wait)
		if c.signal {
			eventually(t, "it listens", func() bool { _, err := os.Stat(entry.socket); return err == nil })
			entry.process.Process.Signal(syscall.SIGTERM)
		}
		entry.waitGone()
		if code := entry.process.ProcessState.ExitCode(); code != 1 {
			t.Error(c, code)
		}
	}
}

func TestCommandsMayNotJoin(t *testing.T) {
	c := agent(t)
	join := os.Args[0] + " connect --socket " + c.socket
	env := object{"env": []string{"AGENT_UNDER_TEST=1"}}
	for _, script := range []string{join + " </dev/null", "(setsid " + join + " </dev/null & ) ; sleep 1; wait"} {
		id := c.start(script, env)
		c.kind(kindExited, id)
		if out := c.output(id, 1); out != "" {
			t.Errorf("%q: a command was greeted: %q", script, out)
		}
	}
	g := c.guest() // which does not come from the agent
	g.greet(600)
	g.ping("12345678")
}
