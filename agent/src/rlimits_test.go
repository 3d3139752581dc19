package main

import (
	"strconv"
	"syscall"
	"testing"
)

func TestRlimits(t *testing.T) {
	if !isolated(t) {
		return
	}
	spec := shell("ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -t")
	spec.Rlimits = map[string][2]int64{"nofile": {100, 200}, "core": {0, 0}, "cpu": {-1, -1}}
	if out := says(t, spec); out != "100\n200\n0\nunlimited" {
		t.Errorf("%q", out)
	}
	for name, pair := range map[string][2]int64{"nonsense": {1, 1}, "nofile": {-2, 5}, "as": {10, 5}} {
		expectCode(t, &Spec{Argv: []string{"/bin/true"}, Rlimits: map[string][2]int64{name: pair}}, "start", syscall.EINVAL)
	}
}

// The Go runtime raises the agent's own limit; commands get the one of before.
func TestOpenFilesLimitIsTheSandboxs(t *testing.T) {
	if !isolated(t) {
		return
	}
	out := says(t, shell("ulimit -Sn"))
	first := firstNofile.Load()
	if first == nil {
		t.Skip("nothing was raised")
	}
	if out != strconv.FormatUint(first.Cur, 10) {
		t.Errorf("%s, not %d", out, first.Cur)
	}
}
