package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Generous: what is tested is that things end, not when.
const patience = 60 * time.Second

const isolatedMark = "AGENT_TEST_ISOLATED"

var setUp = sync.OnceFunc(func() {
	if os.Getpid() == 1 {
		must(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
		must(syscall.Mount("proc", "/proc", "proc", 0, ""))
	}
	must(Protect(capSysPtrace, capAuditWrite))
	StartReaper()
})

// isolated is true in a process that has this test alone, and the reaper, which
// would take the children of other tests. The first call starts that process; as
// root as process 1 of a namespace, so that what a broken kill leaves dies with it.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(isolatedMark) != "" {
		setUp()
		return true
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	command := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v",
		"-test.short="+strconv.FormatBool(testing.Short()))
	command.Env = append(os.Environ(), isolatedMark+"=1")
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		command.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	}
	out, err := command.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP: "+t.Name())):
		t.Skipf("%s", out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
		t.Fatalf("it did not run\n%s", out)
	}
	return false
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// needRoot is for tests that change mounts or users, or start what might survive:
// as process 1 of a namespace only.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getpid() != 1 {
		t.Skip("needs root, for a namespace of its own")
	}
}

func start(t *testing.T, spec *Spec) *Program {
	t.Helper()
	p, fail := StartProgram(spec)
	if fail != nil {
		t.Fatalf("%q: %v", spec.Argv, fail)
	}
	t.Cleanup(func() {
		p.KillTree()
		p.closeFiles()
	})
	return p
}

func await(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s: nothing after %v", what, patience)
	}
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// run starts a command and waits until it and all of its output has ended.
func run(t *testing.T, spec *Spec) (stdout, stderr string, o Outcome) {
	t.Helper()
	p := start(t, spec)
	var texts [2]bytes.Buffer
	read := make(chan struct{}, 2)
	for i, f := range []*os.File{p.Stdout, p.Stderr} {
		go func() {
			if f != nil {
				io.Copy(&texts[i], f)
			}
			read <- struct{}{}
		}()
	}
	await(t, "stdout or stderr", read)
	await(t, "stdout or stderr", read)
	await(t, "the end of the command", p.Done())
	return texts[0].String(), texts[1].String(), p.Outcome()
}

func shell(script string) *Spec {
	return &Spec{Argv: []string{"/bin/sh", "-c", script}, Umask: 0o22}
}

// says runs a script that must succeed and returns its words.
func says(t *testing.T, spec *Spec) string {
	t.Helper()
	out, err, o := run(t, spec)
	if o.ExitCode != 0 {
		t.Fatalf("%q: %+v, %q, %q", spec.Argv, o, out, err)
	}
	return strings.TrimSpace(out)
}

func expectCode(t *testing.T, spec *Spec, code string, errno syscall.Errno) {
	t.Helper()
	p, fail := StartProgram(spec)
	if fail == nil {
		p.KillTree()
		t.Fatalf("%q started", spec.Argv)
	}
	if fail.Code != code || fail.Errno != int(errno) {
		t.Fatalf("%q: %v (errno %d), not %s (%d)", spec.Argv, fail, fail.Errno, code, int(errno))
	}
}
