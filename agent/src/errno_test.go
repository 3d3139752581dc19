package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
)

func TestFileFailure(t *testing.T) {
	for e, code := range map[syscall.Errno]string{
		syscall.ENOENT: "not_found", syscall.EACCES: "permission", syscall.EROFS: "permission",
		syscall.EISDIR: "is_a_directory", syscall.ENOTDIR: "not_a_directory", syscall.EEXIST: "exists",
		syscall.ENOTEMPTY: "not_empty", syscall.ENOSPC: "no_space", syscall.EINVAL: "invalid", syscall.EMFILE: "io",
	} {
		err := fmt.Errorf("work: %w", &os.PathError{Op: "open", Path: "/x", Err: e})
		if f := FileFailure(err); f.Code != code || f.Errno != int(e) || f.Message != err.Error() {
			t.Errorf("%v: %+v", e, f)
		}
	}
	own := failure("user", "x", syscall.EPERM)
	if f := FileFailure(fmt.Errorf("more: %w", own)); f != own {
		t.Errorf("%+v", f)
	}
	if f := FileFailure(errors.New("strange")); f.Code != "io" || f.Errno != int(syscall.EIO) {
		t.Errorf("%+v", f)
	}
	if FileFailure(nil) != nil {
		t.Error("nil")
	}
}
