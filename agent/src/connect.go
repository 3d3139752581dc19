package main

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

const connectRetry = 50 * time.Millisecond

// connect copies stdio to the socket of the agent that serves in this sandbox, until the agent closes it.
func connect(path string, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	for {
		socket, err := dialAgent(path)
		if err == nil {
			return copyBoth(socket)
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(connectRetry)
	}
}

func dialAgent(path string) (*os.File, error) {
	socket, err := dial(path)
	if err != nil && path == defaultSocket {
		if other, failed := dial(abstractSocket); failed == nil {
			return other, nil
		}
	}
	return socket, err
}

func dial(path string) (*os.File, error) {
	fd, err := newSocket()
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err == nil && !trusted(fd, false) {
		err = errors.New("the socket is served by somebody else")
	}
	if err != nil {
		syscall.Close(fd)
		return nil, &os.PathError{Op: "connect", Path: path, Err: err}
	}
	return pollable(fd, path), nil
}

func copyBoth(socket *os.File) error {
	go func() {
		io.CopyBuffer(onlyWriter{socket}, onlyReader{os.Stdin}, make([]byte, maxData))
		withFd(socket, func(fd int) { syscall.Shutdown(fd, syscall.SHUT_WR) })
	}()
	_, err := io.CopyBuffer(onlyWriter{os.Stdout}, onlyReader{socket}, make([]byte, maxData))
	return err
}

// Without their other methods, files are copied with the buffer given.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }
