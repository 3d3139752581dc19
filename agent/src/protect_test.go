package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestCommandsCannotTouchTheAgent(t *testing.T) {
	if !isolated(t) {
		return
	}
	script := fmt.Sprintf("grep -E 'Cap(Bnd|Prm|Eff)' /proc/self/status; (: </proc/%d/fd/0); (: >/proc/$PPID/fd/3)", os.Getpid())
	out, err, _ := run(t, shell(script))
	const bits = 1<<capSysPtrace | 1<<capAuditWrite
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var name string
		var set uint64
		if _, e := fmt.Sscanf(line, "%s %x", &name, &set); e != nil {
			t.Errorf("%q: %v", line, e)
		}
		if set&bits != 0 && (os.Getuid() == 0 || name != "CapBnd:") {
			t.Errorf("%q", line)
		}
	}
	if strings.Count(err, "ermission denied") != 2 {
		t.Errorf("%q", err)
	}
}

func TestStaysNotDumpable(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	spec := shell("true")
	spec.User = &UserSpec{Uid: 4001, Gid: 4002}
	says(t, spec)
	must(AsUser(&Identity{Uid: 4001, Gid: 4002}, func() error { return nil }))
	const getDumpable = 3
	if v, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, getDumpable, 0, 0); v != 0 || e != 0 {
		t.Errorf("dumpable %d, %v", v, e)
	}
}

func TestFatalSignalsAreIgnored(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	ignoreFatalSignals()
	out := says(t, shell("for s in HUP INT QUIT ILL TRAP ABRT BUS FPE SEGV TERM STKFLT XCPU XFSZ IO PWR SYS; do "+
		"kill -s $s 1; done; grep SigIgn /proc/self/status"))
	if !strings.HasSuffix(out, "\t0000000000000000") {
		t.Errorf("commands inherit it: %q", out)
	}
	says(t, shell("true"))
}
