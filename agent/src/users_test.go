package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// passwd puts files of ours over /etc/passwd and /etc/group, in this namespace only.
func passwd(t *testing.T, users, groups string) {
	t.Helper()
	needRoot(t)
	for path, text := range map[string]string{"/etc/passwd": users, "/etc/group": groups} {
		file := filepath.Join(t.TempDir(), "x")
		must(os.WriteFile(file, []byte(text), 0o644))
		must(syscall.Mount(file, path, "", syscall.MS_BIND, ""))
		t.Cleanup(func() { must(syscall.Unmount(path, syscall.MNT_DETACH)) })
	}
}

const (
	testUsers  = "root:x:0:0::/root:/bin/sh\nbroken\nann:x:4001:4002:Ann:/home/ann:/bin/sh\nbob:x:4003:4003\n"
	testGroups = "root:x:0:\nann:x:4002:\nteam:x:4010:bob,ann\nother:x:4011:annie\nbad:x:y:ann\nmore:x:4012:ann\n"
)

func TestLookupUser(t *testing.T) {
	if !isolated(t) {
		return
	}
	passwd(t, testUsers, testGroups)
	id, fail := LookupUser(&UserSpec{Name: "ann"})
	if fail != nil || id.Uid != 4001 || id.Gid != 4002 || id.Home != "/home/ann" || len(id.Groups) != 3 {
		t.Errorf("%+v %v", id, fail)
	}
	for _, name := range []string{"nobody-here", "bob", "broken"} {
		if _, fail := LookupUser(&UserSpec{Name: name}); fail == nil || fail.Code != "user" {
			t.Errorf("%s: %v", name, fail)
		}
	}
	if id, _ := LookupUser(&UserSpec{Uid: 4001, Gid: 7}); id.Name != "ann" || id.Gid != 7 || id.Home != "/home/ann" {
		t.Errorf("%+v", id)
	}
	if id, _ := LookupUser(&UserSpec{Uid: 5000, Gid: 7}); id.Name != "" || id.Home != "/tmp" {
		t.Errorf("%+v", id)
	}
}

func TestCommandOfAUser(t *testing.T) {
	if !isolated(t) {
		return
	}
	passwd(t, testUsers, testGroups)
	t.Setenv("HOME", "/root")
	t.Setenv("USER", "root")
	const script = "id -u; id -g; id -G; echo ${HOME-none} ${USER-none} ${LOGNAME-none}; grep -E 'Cap(Prm|Eff)' /proc/self/status"
	const none = "\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000"
	check := func(user *UserSpec, env []string, want string) {
		t.Helper()
		spec := shell(script)
		spec.User, spec.Env = user, env
		if out := says(t, spec); out != want {
			t.Errorf("%q, not %q", out, want)
		}
	}
	check(&UserSpec{Name: "ann"}, nil, "4001\n4002\n4002 4010 4012\n/home/ann ann ann"+none)
	check(&UserSpec{Uid: 4001, Gid: 4002}, []string{"HOME=/x"}, "4001\n4002\n4002\n/x ann ann"+none)
	check(&UserSpec{Uid: 5000, Gid: 5001, Groups: []uint32{6000}}, nil, "5000\n5001\n5001 6000\n/tmp none none"+none)
	expectCode(t, &Spec{Argv: []string{"true"}, User: &UserSpec{Name: "nobody-here"}}, "user", syscall.ENOENT)
}

func TestFoldersOfAUser(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	dir := t.TempDir()
	must(os.Chmod(filepath.Dir(dir), 0o755))
	must(os.Chmod(dir, 0o755))
	must(os.Mkdir(dir+"/closed", 0o700))
	ann := &UserSpec{Uid: 4001, Gid: 4002}
	expectCode(t, &Spec{Argv: []string{"/bin/true"}, User: ann, Cwd: dir + "/closed"}, "cwd", syscall.EACCES)
	spec := &Spec{Argv: []string{"/bin/touch", "made"}, User: ann, Cwd: dir + "/a/b", MakeCwd: true}
	says(t, spec)
	for _, path := range []string{"/a", "/a/b", "/a/b/made"} {
		info, err := os.Stat(dir + path)
		must(err)
		if s := info.Sys().(*syscall.Stat_t); s.Uid != 4001 || s.Gid != 4002 {
			t.Errorf("%s: %d:%d", path, s.Uid, s.Gid)
		}
	}
}

func TestAsUser(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	dir := t.TempDir()
	must(os.Chmod(filepath.Dir(dir), 0o755))
	must(os.Chmod(dir, 0o777))
	must(os.WriteFile(dir+"/secret", nil, 0o600))
	ann := &Identity{Uid: 4001, Gid: 4002, Groups: []uint32{4010}}
	for range 20 {
		err := AsUser(ann, func() error {
			if _, err := os.Open(dir + "/secret"); !errors.Is(err, os.ErrPermission) {
				t.Errorf("secret: %v", err)
			}
			return os.WriteFile(dir+"/hers", nil, 0o600)
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.ReadFile(dir + "/secret"); err != nil {
			t.Fatalf("not root any more: %v", err)
		}
	}
	info, err := os.Stat(dir + "/hers")
	must(err)
	if s := info.Sys().(*syscall.Stat_t); s.Uid != 4001 || s.Gid != 4002 {
		t.Errorf("%d:%d", s.Uid, s.Gid)
	}
	sentinel := errors.New("x")
	if err := AsUser(ann, func() error { return sentinel }); err != sentinel {
		t.Error(err)
	}
	if err := AsUser(ann, func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("a work that gave up has no error")
	}
	if err := AsUser(nil, func() error { return os.WriteFile(dir+"/secret", nil, 0o600) }); err != nil {
		t.Error(err)
	}
	status, err := os.ReadFile("/proc/self/status")
	must(err)
	if !strings.Contains(string(status), "Uid:\t0\t0\t0\t0\n") {
		t.Errorf("%s", status)
	}
}

func TestFoldersAreNotGivenBehindALink(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	dir := t.TempDir()
	must(os.Chmod(filepath.Dir(dir), 0o755))
	must(os.Chmod(dir, 0o755))
	must(os.Mkdir(dir+"/roots", 0o755))
	must(os.Mkdir(dir+"/open", 0o777))
	must(os.Chmod(dir+"/open", 0o777))
	must(os.Mkdir(dir+"/open/inside", 0o755))
	must(os.Symlink(dir+"/roots", dir+"/open/a"))
	must(os.Symlink(dir+"/open", dir+"/link"))
	ann := &UserSpec{Uid: 4001, Gid: 4002}
	for _, path := range []string{"/open/a/mine", "/open/inside/mine", "/link/a/mine"} {
		spec := &Spec{Argv: []string{"/bin/true"}, User: ann, Cwd: dir + path, MakeCwd: true}
		expectCode(t, spec, "cwd", syscall.EACCES)
		if _, err := os.Stat(dir + path); err == nil {
			t.Error(path)
		}
	}
	says(t, &Spec{Argv: []string{"/bin/touch", "x"}, User: ann, Cwd: dir + "/link/hers/too", MakeCwd: true})
	says(t, &Spec{Argv: []string{"/bin/touch", "x"}, User: ann, Cwd: dir + "/roots/hers/too", MakeCwd: true})
}
