package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var compiled string

// nastyPath compiles testdata/nasty.c once, for the one test of this process.
func nastyPath(t *testing.T) string {
	t.Helper()
	if compiled != "" {
		return compiled
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("needs gcc: ", err)
	}
	path := filepath.Join(t.TempDir(), "nasty")
	must(os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755)) // other users run it too
	cwd, err := os.Getwd()
	must(err)
	says(t, &Spec{Argv: []string{gcc, "-O1", "-pthread", "-o", path, "testdata/nasty.c"}, Cwd: cwd, Umask: 0o22})
	compiled = path
	return path
}

func nasty(t *testing.T, user *UserSpec, ways ...string) *Program {
	t.Helper()
	path := nastyPath(t)
	p := start(t, &Spec{Argv: append([]string{path}, ways...), User: user, Umask: 0o22})
	must(p.Stdout.SetReadDeadline(time.Now().Add(patience)))
	if word, err := bufio.NewReader(p.Stdout).ReadString('\n'); word != "ready\n" {
		t.Fatalf("%v: %q, %v", ways, word, err)
	}
	return p
}

// others are all living processes of the namespace but this one and the given.
func others(keep ...int) (pids []int) {
	var s scan
	s.begin()
	entries, err := os.ReadDir("/proc")
	must(err)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		kept := pid == os.Getpid()
		for _, k := range keep {
			kept = kept || k == pid
		}
		if err == nil && !kept && !s.isDead(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestKillTreeLeavesNothing(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	runs := 50
	if testing.Short() {
		runs = 5
	}
	cases := map[string][]string{
		"detached":   {"daemons", "plain", "group", "vfork", "thread"},
		"quit":       {"daemons", "thread", "quit"},
		"hoppers":    {"daemons", "hoppers"},
		"stopparent": {"daemons", "stopparent", "plain"},
		"everything": {"daemons", "plain", "group", "vfork", "thread", "hoppers"},
	}
	sibling := nasty(t, nil, "daemons", "plain", "thread")
	var family []int
	until(t, "the sibling's processes", func() bool { // six under another name, and none that is about to end
		family = others()
		renamed := slices.DeleteFunc(slices.Clone(family), func(pid int) bool {
			line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline") // gone is not renamed
			return !strings.HasPrefix(string(line), "kworker\x00")
		})
		// Listed again: the first list may lack what came before the last of the six, and hold what has ended since.
		return len(family) == 10 && len(renamed) == 6 && slices.Equal(family, others())
	})
	for name, ways := range cases {
		t.Run(name, func(t *testing.T) {
			for range runs {
				p := nasty(t, nil, ways...)
				if name == "quit" {
					await(t, "the end of the command", p.Done())
				}
				p.KillTree()
				await(t, "the end of all", p.Gone())
				await(t, "the end of the command", p.Done())
				if left := others(family...); len(left) > 0 {
					t.Fatalf("left: %v", left)
				}
				if o := p.Outcome(); name != "quit" && o.Signal != 9 || name == "quit" && o.ExitCode != 7 {
					t.Fatalf("%+v", o)
				}
				p.closeFiles()
			}
			if now := others(); !slices.Equal(now, family) {
				t.Fatalf("the sibling had %v, and now %v", family, now)
			}
		})
	}
	sibling.KillTree()
	if left := others(); len(left) > 0 {
		t.Errorf("left of the sibling: %v", left)
	}
}

func TestCommandKillsItsShim(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	path := nastyPath(t)
	for range 50 {
		spec := &Spec{Argv: []string{path, "killparent", "daemons", "plain", "group", "hoppers"}}
		p, fail := StartProgram(spec)
		if fail != nil { // it was faster than the shim's word that it runs
			if fail.Code != "start" || fail.Errno != int(syscall.ECHILD) {
				t.Fatal(fail)
			}
		} else {
			await(t, "the end of all", p.Gone())
			await(t, "the end of the command", p.Done())
			if o := p.Outcome(); o.Signal != 9 {
				t.Fatalf("%+v", o)
			}
			p.closeFiles()
		}
		until(t, "nothing left", func() bool { return len(others()) == 0 })
	}
}

func TestKillTreeWithoutChildrenFiles(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	if droppedBefore {
		t.Skip("each look reads all of /proc: at the race detector's pace what hops is never caught up with")
	}
	hasChildrenFiles = func() bool { return false } // for good: this process has this test alone
	for range 5 {
		// No hoppers: each look reads all of /proc, too slow to catch up with them on a loaded machine, and their dead
		// fill its table of processes meanwhile.
		p := nasty(t, nil, "daemons", "plain", "group", "thread")
		p.KillTree()
		await(t, "the end of all", p.Gone())
		if left := others(); len(left) > 0 {
			t.Fatalf("left: %v", left)
		}
	}
}

func TestBombUnderALimit(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	// RLIMIT_NPROC does not bind root, but it does a user without other processes.
	spec := &UserSpec{Uid: 4777, Gid: 4777}
	path := nastyPath(t)
	p := start(t, &Spec{Argv: []string{path, "bomb"}, User: spec, Rlimits: map[string][2]int64{"nproc": {200, 200}}})
	until(t, "a bomb", func() bool { return len(others()) > 150 })
	p.KillTree()
	await(t, "the end of all", p.Gone())
	if left := others(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestSomebodyStopsTheShim(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	p := nasty(t, nil, "stopparent", "quit")
	await(t, "the end of the command", p.Done())
	if p.Outcome().ExitCode != 7 {
		t.Errorf("%+v", p.Outcome())
	}
}

func TestShimKilledAndCommandGoesOn(t *testing.T) {
	if !isolated(t) {
		return
	}
	spec := shell("read x; exit 5")
	spec.Stdin = true
	p := start(t, spec)
	killShim(t, p)
	p.Stdin.Close()
	await(t, "the end of the command", p.Done())
	await(t, "the end of all", p.Gone())
	if o := p.Outcome(); o.ExitCode != 5 && o.Signal != 9 { // it ends or is killed
		t.Errorf("%+v", o)
	}
}

func killShim(t *testing.T, p *Program) {
	t.Helper()
	pid := p.shimPid()
	if pid == 0 { // kill(2) would take it for the group of the tests
		t.Fatal("the shim has ended")
	}
	must(syscall.Kill(pid, syscall.SIGKILL))
}

func TestProgramSignals(t *testing.T) {
	if !isolated(t) {
		return
	}
	const deafChild = `trap "echo parent; wait; exit" TERM; sh -c 'trap "echo child; exit" TERM; echo ready; while :; do sleep 0.02; done' & wait; wait`
	for scope, want := range []string{"parent", "child parent", "child parent"} {
		p := start(t, shell(deafChild))
		must(p.Stdout.SetReadDeadline(time.Now().Add(patience)))
		out := bufio.NewReader(p.Stdout)
		line(t, out, "ready")
		if fail := p.Signal(syscall.SIGTERM, scope); fail != nil {
			t.Fatal(fail)
		}
		for range strings.Fields(want) {
			word, err := out.ReadString('\n')
			if err != nil || !strings.Contains(want, strings.TrimSpace(word)) {
				t.Errorf("scope %d: %q, %v", scope, word, err)
			}
		}
		if scope == 0 {
			select {
			case <-p.Done():
				t.Error("the child was signalled too")
			case <-time.After(50 * time.Millisecond):
			}
		}
		if fail := p.Signal(syscall.SIGKILL, 2); fail != nil {
			t.Fatal(fail)
		}
		await(t, "the end of all", p.Gone())
		for scope := range 3 {
			if fail := p.Signal(syscall.SIGTERM, scope); fail == nil || fail.Errno != int(syscall.ESRCH) {
				t.Errorf("scope %d after the end: %v", scope, fail)
			}
		}
	}
}
