package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The other architecture's shim, by qemu's emulation of a single program (where the
// shim is a copy: see spawnShim).
func TestOnArm64(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	gotool, err := exec.LookPath("go")
	if err != nil || runtime.GOARCH == "arm64" || testing.Short() {
		t.Skip("needs go on another architecture, and no -short: ", err)
	}
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Skip("needs qemu-aarch64-static: ", err)
	}
	cwd, err := os.Getwd()
	must(err)
	binary := filepath.Join(t.TempDir(), "agent.test")
	says(t, &Spec{
		Argv: []string{gotool, "test", "-c", "-ldflags", "-checklinkname=0", "-o", binary, "."},
		Env:  []string{"GOARCH=arm64", "CGO_ENABLED=0"}, Cwd: cwd, Umask: 0o22,
	})
	tests := []string{
		"TestOutputStaysApart", "TestProgramStdin", "TestNotRunnable", "TestProgramCwd", "TestProgramEnvironment",
		"TestArgumentsAreExact", "TestOutcomeHasTimes", "TestProgramTerminal", "TestManyAtOnceHoldNoThreads",
	}
	for _, test := range tests {
		spec := &Spec{Argv: []string{qemu, binary, "-test.v", "-test.run=^" + test + "$"}, Cwd: cwd, Umask: 0o22}
		if out := says(t, spec); !strings.Contains(out, "--- PASS: "+test) {
			t.Errorf("%s: %s", test, out)
		}
	}
}
