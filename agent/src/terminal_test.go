package main

import (
	"bufio"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
)

func terminal(t *testing.T, script string) (*Program, *bufio.Reader) {
	t.Helper()
	spec := shell(script)
	spec.TTY = &TTYSpec{Rows: 30, Cols: 90, Term: "vt220"}
	p := start(t, spec)
	if p.Stderr != nil || p.Stdin == nil || p.Stdin.Fd() == p.Stdout.Fd() {
		t.Fatal("the files of a terminal")
	}
	must(syscall.SetNonblock(int(p.Stdin.Fd()), true)) // Fd made it blocking
	must(p.Stdout.SetReadDeadline(time.Now().Add(patience)))
	return p, bufio.NewReader(p.Stdout)
}

func line(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	got, err := r.ReadString('\n')
	if strings.TrimRight(got, "\r\n") != want {
		t.Fatalf("%q (%v), not %q", got, err, want)
	}
}

func TestProgramTerminal(t *testing.T) {
	if !isolated(t) {
		return
	}
	p, out := terminal(t, `trap 'stty size; exit 4' WINCH; test -t 0 && test -t 1 && test -t 2 && echo terminal
stty -echo; stty size; echo $TERM; echo to-tty >/dev/tty; read x; echo got $x; while :; do sleep 0.02; done`)
	for _, want := range []string{"terminal", "30 90", "vt220", "to-tty"} {
		line(t, out, want)
	}
	if _, err := io.WriteString(p.Stdin, "word\n"); err != nil {
		t.Fatal(err)
	}
	line(t, out, "got word")
	if fail := p.Resize(41, 132); fail != nil {
		t.Fatal(fail)
	}
	line(t, out, "41 132")
	await(t, "the end", p.Done())
	if p.Outcome().ExitCode != 4 {
		t.Errorf("%+v", p.Outcome())
	}
	if n, err := out.Read(make([]byte, 1)); n != 0 || err == nil || errnoOf(err) != syscall.EIO {
		t.Errorf("after the end: %d, %v", n, err)
	}
}

func TestInterruptKey(t *testing.T) {
	if !isolated(t) {
		return
	}
	p, out := terminal(t, "trap 'exit 9' INT; stty -echo; echo ready; while :; do sleep 0.02; done")
	line(t, out, "ready")
	io.WriteString(p.Stdin, "\x03")
	await(t, "the end", p.Done())
	if p.Outcome().ExitCode != 9 {
		t.Errorf("%+v", p.Outcome())
	}
}

func TestHangup(t *testing.T) {
	if !isolated(t) {
		return
	}
	p, out := terminal(t, "echo ready; sleep 1000")
	line(t, out, "ready")
	p.Stdin.Close()
	p.Stdout.Close()
	await(t, "the end", p.Done())
	if p.Outcome().Signal != int(syscall.SIGHUP) {
		t.Errorf("%+v", p.Outcome())
	}
	if fail := p.Resize(1, 1); fail == nil {
		t.Error("resized a closed terminal")
	}
	if fail := start(t, shell("true")).Resize(1, 1); fail == nil || fail.Code != "invalid" {
		t.Error(fail)
	}
}
