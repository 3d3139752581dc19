package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestExitCodesAndSignals(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, code := range []int{0, 1, 7, 127, 255} {
		if _, _, o := run(t, shell("exit "+strconv.Itoa(code))); o.ExitCode != code || o.Signal != 0 {
			t.Errorf("exit %d: %+v", code, o)
		}
	}
	for _, sig := range []int{1, 9, 15, 34} {
		if _, _, o := run(t, shell(fmt.Sprintf("kill -%d $$", sig))); o.ExitCode != -1 || o.Signal != sig {
			t.Errorf("kill -%d: %+v", sig, o)
		}
	}
}

func TestOutputStaysApart(t *testing.T) {
	if !isolated(t) {
		return
	}
	out, err, _ := run(t, shell("echo out; echo err >&2"))
	if out != "out\n" || err != "err\n" {
		t.Errorf("%q, %q", out, err)
	}
	merged := shell("echo out; echo err >&2; echo more")
	merged.Merge = true
	if out := says(t, merged); out != "out\nerr\nmore" {
		t.Errorf("merged: %q", out)
	}
}

func TestProgramStdin(t *testing.T) {
	if !isolated(t) {
		return
	}
	if out := says(t, shell("cat; readlink /proc/self/fd/0")); out != "/dev/null" {
		t.Errorf("without stdin: %q", out)
	}
	spec := shell("cat; echo end")
	spec.Stdin = true
	p := start(t, spec)
	go func() {
		io.WriteString(p.Stdin, strings.Repeat("x", 1<<20))
		p.Stdin.Close()
	}()
	out, err := io.ReadAll(p.Stdout)
	if err != nil || len(out) != 1<<20+4 || !strings.HasSuffix(string(out), "xend\n") {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

func TestDeadlinesAndPending(t *testing.T) {
	if !isolated(t) {
		return
	}
	spec := shell("printf 12345; read x")
	spec.Stdin = true
	p := start(t, spec)
	until(t, "5 bytes in the pipe", func() bool { return Pending(p.Stdout) == 5 })
	must(p.Stderr.SetReadDeadline(time.Now().Add(time.Millisecond)))
	if _, err := p.Stderr.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Errorf("read: %v", err)
	}
	p.Stdout.Close()
	if n := Pending(p.Stdout); n != 0 {
		t.Errorf("closed: %d", n)
	}
}

func TestNotRunnable(t *testing.T) {
	if !isolated(t) {
		return
	}
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, []byte(text), mode))
		return path
	}
	plain := file("plain", "x", 0o644)
	garbage := file("garbage", "\x00\x01\x02garbage", 0o755)
	orphan := file("orphan", "#!/no/such/interpreter\n", 0o755)
	expectCode(t, &Spec{Argv: []string{"/no/such/file"}}, "not_found", syscall.ENOENT)
	expectCode(t, &Spec{Argv: []string{"no-such-program"}, Env: []string{"PATH=/bin:/usr/bin"}}, "not_found", syscall.ENOENT)
	expectCode(t, &Spec{Argv: []string{""}}, "not_found", syscall.ENOENT)
	expectCode(t, &Spec{Argv: []string{plain + "/x"}}, "not_found", syscall.ENOTDIR)
	expectCode(t, &Spec{Argv: []string{orphan}}, "not_found", syscall.ENOENT)
	expectCode(t, &Spec{Argv: []string{plain}}, "permission", syscall.EACCES)
	expectCode(t, &Spec{Argv: []string{dir}}, "permission", syscall.EACCES)
	expectCode(t, &Spec{Argv: []string{garbage}}, "format", syscall.ENOEXEC)
	expectCode(t, &Spec{Argv: []string{"/bin/true", strings.Repeat("x", 1<<20)}}, "start", syscall.E2BIG)
	expectCode(t, &Spec{Argv: []string{"/bin/true", "a\x00b"}}, "start", syscall.EINVAL)
	expectCode(t, &Spec{}, "start", syscall.EINVAL)
	// As execvp: a file without the right is told only when PATH has no other.
	path := "PATH=" + dir + ":/nowhere:/bin"
	expectCode(t, &Spec{Argv: []string{"plain"}, Env: []string{path}}, "permission", syscall.EACCES)
	must(os.Mkdir(filepath.Join(dir, "sh"), 0o755))
	if out := says(t, &Spec{Argv: []string{"sh", "-c", "echo found"}, Env: []string{path}}); out != "found" {
		t.Errorf("%q", out)
	}
}

func TestProgramCwd(t *testing.T) {
	if !isolated(t) {
		return
	}
	dir := t.TempDir()
	pwd := func(spec *Spec, want string) {
		t.Helper()
		spec.Argv = []string{"/bin/pwd"}
		if out := says(t, spec); out != want {
			t.Errorf("%q, not %q", out, want)
		}
	}
	pwd(&Spec{}, "/")
	pwd(&Spec{Cwd: dir}, dir)
	pwd(&Spec{Cwd: dir + "/new/deep", MakeCwd: true}, dir+"/new/deep")
	expectCode(t, &Spec{Argv: []string{"/bin/true"}, Cwd: "/no/such"}, "cwd", syscall.ENOENT)
	expectCode(t, &Spec{Argv: []string{"/bin/true"}, Cwd: "/bin/true"}, "cwd", syscall.ENOTDIR)
	expectCode(t, &Spec{Argv: []string{"/bin/true"}, Cwd: "/bin/true/x", MakeCwd: true}, "cwd", syscall.ENOTDIR)
	must(os.Symlink("/bin/echo", filepath.Join(dir, "say")))
	spec := &Spec{Argv: []string{"say", "hi"}, Cwd: dir, Env: []string{"PATH=.:/nowhere"}}
	if out := says(t, spec); out != "hi" {
		t.Errorf("a relative PATH is of the cwd: %q", out)
	}
}

func TestProgramEnvironment(t *testing.T) {
	if !isolated(t) {
		return
	}
	t.Setenv("OPENRT_SECRET", "x")
	t.Setenv("KEPT", "agent")
	env := func(spec *Spec) []string {
		t.Helper()
		spec.Argv = []string{"/usr/bin/env", "-0"}
		out, _, _ := run(t, spec)
		return strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	}
	got := env(&Spec{Env: []string{"A=1", "A=2", "KEPT=", "BYTES=\xff\xfe\n"}})
	for _, want := range []string{"A=2", "KEPT=", "BYTES=\xff\xfe\n"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	for _, entry := range got {
		if strings.HasPrefix(entry, "OPENRT_") || entry == "A=1" || entry == "KEPT=agent" {
			t.Errorf("%q", entry)
		}
	}
	if got := env(&Spec{ClearEnv: true, Env: []string{"B=1"}}); !slices.Equal(got, []string{"B=1", "PATH=" + defaultPath}) {
		t.Errorf("%q", got)
	}
	var large []string
	for i := range 1024 {
		large = append(large, fmt.Sprintf("V%d=%s", i, strings.Repeat("x", 1018)))
	}
	if got := env(&Spec{ClearEnv: true, Env: large}); len(got) != 1025 || got[1023] != large[1023] {
		t.Errorf("%d entries", len(got))
	}
}

func TestArgumentsAreExact(t *testing.T) {
	if !isolated(t) {
		return
	}
	argv := []string{"/usr/bin/printf", "%s|", "", "a b", "\xff\x80", "$HOME", "*", "", "\n"}
	out, _, _ := run(t, &Spec{Argv: argv})
	if want := strings.Join(argv[2:], "|") + "|"; out != want {
		t.Errorf("%q, not %q", out, want)
	}
	many := append([]string{"/bin/sh", "-c", "echo $#", "sh"}, slices.Repeat([]string{"x"}, 20000)...)
	if out := says(t, &Spec{Argv: many}); out != "20000" {
		t.Errorf("%q", out)
	}
}

func TestProgramUmask(t *testing.T) {
	if !isolated(t) {
		return
	}
	for _, mask := range []int{0, 0o22, 0o77} {
		spec := shell("umask")
		spec.Umask = mask
		if out := says(t, spec); out != fmt.Sprintf("%04o", mask) {
			t.Errorf("%q", out)
		}
	}
}

func TestNothingIsInherited(t *testing.T) {
	if !isolated(t) {
		return
	}
	start(t, &Spec{Argv: []string{"/bin/sleep", "1000"}, Stdin: true}) // its pipes must not be seen
	got := says(t, shell("ls /proc/$$/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status; ps -o pid= -o pgid= -o sid= -p $$ | tr -s ' '"))
	lines := strings.Split(got, "\n")
	if !slices.Equal(lines[:3], []string{"0", "1", "2"}) || !strings.HasPrefix(lines[3], "SigBlk") {
		t.Errorf("descriptors: %q", lines)
	}
	for _, line := range lines {
		if strings.HasPrefix(line, "Sig") && !strings.HasSuffix(line, "\t0000000000000000") {
			t.Errorf("%q", line)
		}
	}
}

func TestOutcomeHasTimes(t *testing.T) {
	if !isolated(t) {
		return
	}
	_, _, o := run(t, shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 0.05"))
	if o.User <= 0 || o.Wall < 50*time.Millisecond || o.MaxRSS < 100_000 {
		t.Errorf("%+v", o)
	}
}

func TestBackgroundChildDoesNotDelayDone(t *testing.T) {
	if !isolated(t) {
		return
	}
	p := start(t, shell("sleep 1000 & exit 3"))
	await(t, "the command's end", p.Done())
	if p.Outcome().ExitCode != 3 {
		t.Errorf("%+v", p.Outcome())
	}
	select {
	case <-p.Gone():
		t.Error("gone, but sleep lives")
	default:
	}
	p.KillTree()
	await(t, "the end of all", p.Gone())
}

func TestManyAtOnceHoldNoThreads(t *testing.T) {
	if !isolated(t) {
		return
	}
	const count = 200
	var all sync.WaitGroup
	programs := make(chan *Program, count)
	for i := range count {
		all.Add(1)
		go func() {
			defer all.Done()
			spec := shell(fmt.Sprintf("read x; echo ${x}%d; exit %d", i, i))
			spec.Stdin = true
			p, fail := StartProgram(spec)
			if fail != nil {
				t.Error(fail)
				return
			}
			programs <- p
			out, _ := io.ReadAll(p.Stdout)
			<-p.Done()
			if string(out) != fmt.Sprintf("go%d\n", i) || p.Outcome().ExitCode != i {
				t.Errorf("%d: %q %+v", i, out, p.Outcome())
			}
			<-p.Gone()
			p.closeFiles()
		}()
	}
	until(t, "all running", func() bool { return len(programs) == count || t.Failed() })
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil || len(threads) > count/4 {
		t.Errorf("%d threads, %v", len(threads), err)
	}
	for range len(programs) {
		p := <-programs
		io.WriteString(p.Stdin, "go\n")
	}
	all.Wait()
	registry.Lock()
	defer registry.Unlock()
	if len(registry.shims)+len(registry.commands) > 0 {
		t.Errorf("left in the registry: %v %v", registry.shims, registry.commands)
	}
}

func TestWithoutCloseRange(t *testing.T) {
	if !isolated(t) {
		return
	}
	before := hasCloseRange
	hasCloseRange = func() bool { return false }
	defer func() { hasCloseRange = before }()
	p := start(t, shell("echo ok; sleep 1000"))
	must(p.Stdout.SetReadDeadline(time.Now().Add(patience)))
	if _, err := p.Stdout.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.shimPid()))
	if os.Getuid() == 0 && (err != nil || len(fds) != 1) {
		t.Errorf("the shim holds %v, %v", fds, err)
	}
}

func TestStartsThatTheirUserStops(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	ann := &UserSpec{Uid: 4001, Gid: 4002}
	stopper := shell("while :; do kill -s STOP -- -1; done")
	stopper.User = ann
	start(t, stopper)
	var all sync.WaitGroup
	ended := make(chan struct{})
	for range 30 {
		all.Add(1)
		go func() {
			defer all.Done()
			end := time.Now().Add(time.Second)
			p, fail := StartProgram(&Spec{Argv: []string{"/bin/true"}, User: ann,
				Waiting: func() bool { return time.Now().After(end) }})
			if fail == nil {
				p.KillTree()
				p.closeFiles()
			}
		}()
	}
	go func() { all.Wait(); close(ended) }()
	await(t, "starts", ended)
	says(t, shell("true"))
}
