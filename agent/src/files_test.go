package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// latin is a path as JSON carries it.
func latin(path string) string {
	var b strings.Builder
	for i := range len(path) {
		b.WriteRune(rune(path[i]))
	}
	return b.String()
}

func (c *client) writeFile(request object, content ...string) frame {
	c.t.Helper()
	request["op"] = "write"
	id := c.open(kindFile, request)
	for _, s := range content {
		c.send(kindStdin, id, []byte(s))
	}
	c.send(kindStdinEOF, id, nil)
	return c.final(id)
}

func (c *client) readFile(request object) (string, frame) {
	c.t.Helper()
	request["op"] = "read"
	if request["credit"] == nil {
		request["credit"] = []int{1 << 30, 0}
	}
	id := c.open(kindFile, request)
	f := c.final(id)
	return c.output(id, 1), f
}

func leftovers(t *testing.T, folder string) (names []string) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".openrt-") {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestWriteAndReadABinaryName(t *testing.T) {
	c := agent(t)
	path := filepath.Join(t.TempDir(), "new", "n\xff\xe9\n\"x")
	c.check(c.writeFile(object{"path": latin(path)}, "con", "tent"), kindEnd, object{"size": 7})
	if data, err := os.ReadFile(path); string(data) != "content" || err != nil {
		t.Error(string(data), err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o644 {
		t.Error(info.Mode())
	}
	got, f := c.readFile(object{"path": latin(path)})
	c.check(f, kindEnd, object{"size": 7})
	if got != "content" {
		t.Errorf("%q", got)
	}
	got, f = c.readFile(object{"path": latin(path), "offset": 2, "length": 3, "credit": []int{3, 0}})
	c.check(f, kindEnd, object{"size": 3})
	if got != "nte" {
		t.Errorf("%q", got)
	}
	// The end of the file is found with credit for just its size.
	_, f = c.readFile(object{"path": latin(path), "credit": []int{7, 0}})
	c.check(f, kindEnd, object{"size": 7})
}

func TestReadIsStreamedWithinCredit(t *testing.T) {
	c := agent(t)
	id := c.open(kindFile, object{"op": "read", "path": "/dev/zero", "length": 3000000, "credit": []int{100, 0}})
	eventually(t, "the credit is used", func() bool { return len(c.output(id, 1)) == 100 })
	c.credit(id, 1, 1<<30)
	c.check(c.final(id), kindEnd, object{"size": 3000000})
}

func TestWriteReplacesAtOnce(t *testing.T) {
	c := agent(t)
	folder := t.TempDir()
	path := filepath.Join(folder, "f")
	os.WriteFile(path, []byte("old"), 0o600)
	os.Chmod(path, 0o640)
	os.Symlink("f", filepath.Join(folder, "second"))
	os.Symlink("second", filepath.Join(folder, "first"))
	id := c.open(kindFile, object{"op": "write", "path": filepath.Join(folder, "first")})
	c.send(kindStdin, id, []byte("new"))
	c.kind(kindInputCredit, id) // the bytes are in a file
	if data, _ := os.ReadFile(path); string(data) != "old" {
		t.Errorf("%q before the end", data)
	}
	c.send(kindStdinEOF, id, nil)
	c.check(c.final(id), kindEnd, object{"size": 3})
	info, _ := os.Lstat(path)
	if data, _ := os.ReadFile(path); string(data) != "new" || info.Mode() != 0o640 {
		t.Errorf("%q %v", data, info.Mode())
	}
	c.check(c.writeFile(object{"path": path, "mode": 0o4751}, "x"), kindEnd, nil)
	if info, _ = os.Lstat(path); info.Mode() != os.ModeSetuid|0o751 {
		t.Error(info.Mode())
	}
}

func TestWriteThatIsGivenUpLeavesNothing(t *testing.T) {
	c := agent(t)
	folder := t.TempDir()
	path := filepath.Join(folder, "f")
	os.WriteFile(path, []byte("old"), 0o600)
	id := c.open(kindFile, object{"op": "write", "path": path})
	c.send(kindStdin, id, []byte("new"))
	c.kind(kindInputCredit, id)
	c.send(kindCancel, id, nil)
	c.check(c.final(id), kindError, object{"code": "cancelled"})
	if left := leftovers(t, folder); len(left) != 0 {
		t.Error(left)
	}
	id = c.open(kindFile, object{"op": "write", "path": path})
	c.send(kindStdin, id, []byte("new"))
	c.kind(kindInputCredit, id)
	c.in.Close()
	c.waitGone()
	if left := leftovers(t, folder); len(left) != 0 {
		t.Error("after the end of the agent:", left)
	}
	if data, _ := os.ReadFile(path); string(data) != "old" {
		t.Errorf("%q", data)
	}
}

func TestAppendAndExclusive(t *testing.T) {
	c := agent(t)
	path := filepath.Join(t.TempDir(), "f")
	c.check(c.writeFile(object{"path": path, "exclusive": true, "mode": 0o600}, "a"), kindEnd, nil)
	c.check(c.writeFile(object{"path": path, "exclusive": true}, "b"), kindError, object{"code": "exists"})
	c.check(c.writeFile(object{"path": path, "append": true}, "c"), kindEnd, object{"size": 1})
	if data, _ := os.ReadFile(path); string(data) != "ac" {
		t.Errorf("%q", data)
	}
	if left := leftovers(t, filepath.Dir(path)); len(left) != 0 {
		t.Error(left)
	}
	// What comes in between is not replaced.
	other := filepath.Join(filepath.Dir(path), "g")
	id := c.open(kindFile, object{"op": "write", "path": other, "exclusive": true})
	c.send(kindStdin, id, []byte("new"))
	c.kind(kindInputCredit, id)
	os.WriteFile(other, []byte("first"), 0o600)
	c.send(kindStdinEOF, id, nil)
	c.check(c.final(id), kindError, object{"code": "exists"})
	if left := leftovers(t, filepath.Dir(path)); len(left) != 0 {
		t.Error(left)
	}
}

func TestFileErrors(t *testing.T) {
	c := agent(t)
	folder := t.TempDir()
	os.WriteFile(filepath.Join(folder, "file"), nil, 0o600)
	os.Symlink("loop", filepath.Join(folder, "loop"))
	for _, try := range []struct {
		code    string
		request object
	}{
		{"not_found", object{"op": "read", "path": folder + "/none"}},
		{"is_a_directory", object{"op": "read", "path": folder}},
		{"is_a_directory", object{"op": "write", "path": folder}},
		{"not_a_directory", object{"op": "read", "path": folder + "/file/x"}},
		{"not_a_directory", object{"op": "list", "path": folder + "/file"}},
		{"not_found", object{"op": "write", "path": folder + "/no/x", "make_parents": false}},
		{"invalid", object{"op": "write", "path": folder + "/loop"}},
		{"not_empty", object{"op": "remove", "path": folder}},
		{"not_found", object{"op": "remove", "path": folder + "/none", "recursive": true}},
		{"invalid", object{"op": "remove", "path": "/", "recursive": true}},
		{"invalid", object{"op": "remove", "path": "//", "recursive": true}},
		{"invalid", object{"op": "remove", "path": folder + "/..", "recursive": true}},
		{"invalid", object{"op": "read", "path": "relative"}},
		{"invalid", object{"op": "read", "path": "/a\u0000b"}},
		{"invalid", object{"op": "none", "path": "/"}},
		{"exists", object{"op": "mkdir", "path": folder + "/file"}},
		{"exists", object{"op": "mkdir", "path": folder, "exist_ok": false}},
		{"not_found", object{"op": "mkdir", "path": folder + "/a/b", "parents": false}},
		{"user", object{"op": "stat", "path": "/", "user": object{"name": "no-such-user"}}},
	} {
		if try.request["op"] == "write" {
			c.check(c.writeFile(try.request), kindError, object{"code": try.code})
		} else {
			c.check(c.file(try.request), kindError, object{"code": try.code})
		}
	}
}

func TestTree(t *testing.T) {
	c := agent(t)
	folder := t.TempDir()
	deep := folder + "/a/b/c"
	c.check(c.file(object{"op": "mkdir", "path": deep, "mode": 0o1770}), kindEnd, nil)
	c.check(c.file(object{"op": "mkdir", "path": deep}), kindEnd, nil)
	if info, err := os.Stat(deep); err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o770 {
		t.Error(info, err)
	}
	os.WriteFile(deep+"/kept", nil, 0o600)
	os.Symlink(deep, folder+"/link")
	entry := decode(t, c.file(object{"op": "stat", "path": folder + "/link", "follow": false}))["entry"].(object)
	if entry["type"] != "link" || entry["target"] != deep || entry["name"] != "link" {
		t.Error(entry)
	}
	entry = decode(t, c.file(object{"op": "stat", "path": folder + "/link"}))["entry"].(object)
	if entry["type"] != "dir" || entry["mode"] != float64(0o1770) || entry["mtime_ns"].(float64) < 1e18 {
		t.Error(entry)
	}
	c.check(c.file(object{"op": "rename", "path": folder + "/link", "to": folder + "/moved"}), kindEnd, nil)
	c.check(c.file(object{"op": "remove", "path": folder + "/moved/", "recursive": true}), kindEnd, nil)
	if _, err := os.Stat(deep + "/kept"); err != nil {
		t.Error("remove followed a link")
	}
	c.check(c.file(object{"op": "remove", "path": folder + "/a", "recursive": true}), kindEnd, nil)
	if _, err := os.Stat(folder + "/a"); err == nil {
		t.Error("not removed")
	}
}

func TestList(t *testing.T) {
	c := agent(t)
	folder := t.TempDir()
	var want []string
	for i := range 1000 {
		name := string([]byte{'f', byte(i/100 + 128), byte(i/10%10 + '0'), byte(i%10 + '0')})
		os.WriteFile(folder+"/"+name, nil, 0o600)
		want = append(want, name)
	}
	id := c.open(kindFile, object{"op": "list", "path": folder, "credit": []int{50, 0}})
	eventually(t, "the credit is used", func() bool { return len(c.output(id, 1)) == 50 })
	c.credit(id, 1, 1<<30)
	c.check(c.final(id), kindEnd, object{"count": 1000})
	var got []string
	for _, line := range strings.Split(strings.TrimSuffix(c.output(id, 1), "\n"), "\n") {
		var entry struct{ Name byteString }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(line, err)
		}
		got = append(got, string(entry.Name))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Error(len(got), len(want))
	}
}

func TestFifos(t *testing.T) {
	c := agent(t)
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	// Nobody at the other side: both can be given up.
	for _, op := range []string{"read", "write"} {
		id := c.open(kindFile, object{"op": op, "path": path, "credit": []int{100, 0}})
		c.ping("12345678")
		c.send(kindCancel, id, nil)
		c.check(c.final(id), kindError, object{"code": "cancelled"})
	}
	// A reader waits for its writer, and one end of the agent can be the other's.
	reading := c.open(kindFile, object{"op": "read", "path": path, "credit": []int{100, 0}})
	c.ping("12345678")
	c.check(c.writeFile(object{"path": path}, "through"), kindEnd, object{"size": 7})
	c.check(c.final(reading), kindEnd, object{"size": 7})
	if c.output(reading, 1) != "through" {
		t.Errorf("%q", c.output(reading, 1))
	}
	if info, _ := os.Stat(path); info.Mode()&os.ModeNamedPipe == 0 {
		t.Error("the FIFO was replaced")
	}
}

func TestRightsOfTheUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root is needed to be somebody else")
	}
	c := agent(t)
	user := object{"uid": 12345, "gid": 12345, "groups": []int{}}
	open, err := os.MkdirTemp("/tmp", "openrt-agent-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(open)
	os.Chmod(open, 0o777)
	os.WriteFile(open+"/roots", []byte("secret"), 0o600)
	c.check(c.writeFile(object{"path": open + "/d/mine", "user": user}, "x"), kindEnd, nil)
	var stat syscall.Stat_t
	for _, path := range []string{open + "/d", open + "/d/mine"} {
		if syscall.Stat(path, &stat); stat.Uid != 12345 || stat.Gid != 12345 {
			t.Error(path, stat.Uid)
		}
	}
	c.check(c.writeFile(object{"path": open + "/roots", "user": user}, "x"), kindError, object{"code": "permission"})
	_, f := c.readFile(object{"path": open + "/roots", "user": user})
	c.check(f, kindError, object{"code": "permission"})
	// Writable for all and setuid: what replaces it is the user's, and not setuid.
	os.Chmod(open+"/roots", os.ModeSetuid|0o777)
	c.check(c.writeFile(object{"path": open + "/roots", "user": user}, "x"), kindEnd, nil)
	if syscall.Stat(open+"/roots", &stat); stat.Mode&0o7777 != 0o777 || stat.Uid != 12345 {
		t.Errorf("%o %d", stat.Mode, stat.Uid)
	}
	// A folder that the user may not write, with a file that it may: written in place.
	os.Chmod(open+"/d", 0o755)
	os.Chown(open+"/d", 0, 0)
	c.check(c.writeFile(object{"path": open + "/d/mine", "user": user}, "in place"), kindEnd, nil)
	if data, _ := os.ReadFile(open + "/d/mine"); string(data) != "in place" {
		t.Errorf("%q", data)
	}
	// As the agent itself, the owner of an existing file stays.
	c.check(c.writeFile(object{"path": open + "/d/mine"}, "by root"), kindEnd, nil)
	if syscall.Stat(open+"/d/mine", &stat); stat.Uid != 12345 {
		t.Error(stat.Uid)
	}
}

func TestMountPointIsWrittenInPlace(t *testing.T) {
	folder := t.TempDir()
	os.WriteFile(folder+"/source", []byte("old and longer"), 0o600)
	os.WriteFile(folder+"/mounted", nil, 0o600)
	if err := syscall.Mount(folder+"/source", folder+"/mounted", "", syscall.MS_BIND, ""); err != nil {
		t.Skip("no right to mount:", err)
	}
	defer syscall.Unmount(folder+"/mounted", syscall.MNT_DETACH)
	c := agent(t)
	c.check(c.writeFile(object{"path": folder + "/mounted"}, "new"), kindEnd, object{"size": 3})
	if data, _ := os.ReadFile(folder + "/source"); string(data) != "new" {
		t.Errorf("%q", data)
	}
	if left := leftovers(t, folder); len(left) != 0 {
		t.Error(left)
	}
}

func TestNoFilesOfTheAgent(t *testing.T) {
	c := agent(t)
	folder := t.TempDir()
	for i, to := range []string{"/proc/self/fd/0", "/proc/self/environ", "/proc/thread-self/maps", "/proc/self/mem",
		"/proc/" + strconv.Itoa(c.process.Process.Pid) + "/environ"} {
		path := filepath.Join(folder, strconv.Itoa(i))
		os.Symlink(to, path)
		for _, op := range []object{{"op": "read"}, {"op": "write", "append": true}} {
			op["path"], op["credit"] = path, []int{1 << 20, 0}
			id := c.open(kindFile, op)
			c.send(kindStdinEOF, id, nil)
			if f := c.final(id); f.kind != kindError {
				t.Errorf("%v of %s: %d %s", op, to, f.kind, f.payload)
			} else if op["op"] == "read" {
				c.check(f, kindError, object{"code": "permission"})
			}
		}
	}
	c.check(c.file(object{"op": "list", "path": "/proc/self/fd"}), kindError, object{"code": "permission"})
	if f := c.file(object{"op": "read", "path": "/proc/mounts", "credit": []int{1 << 20, 0}}); f.kind != kindEnd {
		t.Errorf("/proc/mounts: %s", f.payload)
	}
	c.ping("12345678")
}
