package main

import (
	"errors"
	"syscall"
)

func errnoOf(err error) syscall.Errno {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return syscall.EIO
}

// startFailure is the ERROR of a program that could not be run.
func startFailure(what string, e syscall.Errno) *Failure {
	code := "start"
	switch e {
	case syscall.ENOENT, syscall.ENOTDIR:
		code = "not_found"
	case syscall.EACCES, syscall.EPERM:
		code = "permission"
	case syscall.ENOEXEC:
		code = "format"
	}
	return failure(code, what, e)
}

// FileFailure is the ERROR of a file operation; nil for nil.
func FileFailure(err error) *Failure {
	if err == nil {
		return nil
	}
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	e := errnoOf(err)
	code := "io"
	switch e {
	case syscall.ENOENT, syscall.ENXIO:
		code = "not_found"
	case syscall.EACCES, syscall.EPERM, syscall.EROFS:
		code = "permission"
	case syscall.EISDIR:
		code = "is_a_directory"
	case syscall.ENOTDIR:
		code = "not_a_directory"
	case syscall.EEXIST:
		code = "exists"
	case syscall.ENOTEMPTY:
		code = "not_empty"
	case syscall.ENOSPC, syscall.EDQUOT:
		code = "no_space"
	case syscall.EINVAL, syscall.ENAMETOOLONG, syscall.ELOOP, syscall.EXDEV:
		code = "invalid"
	}
	return &Failure{Code: code, Message: err.Error(), Errno: int(e)}
}

func failure(code, what string, e syscall.Errno) *Failure {
	return &Failure{Code: code, Message: what + ": " + e.Error(), Errno: int(e)}
}
