// openrt-agent runs inside a sandbox and serves commands and file operations over streams of frames: PROTOCOL.md.
package main

import (
	"errors"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const version = "0.1.0"

const usage = `usage: openrt-agent serve [--socket PATH|none] [--label ID] [--owner socket [--wait SECONDS]]
       openrt-agent connect [--socket PATH] [--wait SECONDS]
       openrt-agent version
`

type options struct {
	socket string
	joined bool // the owner comes through the socket
	wait   time.Duration
}

var errUsage = errors.New("unknown command or option")

func main() {
	if err := runCommandLine(os.Args[1:]); err != nil {
		os.Stderr.WriteString("openrt-agent: " + err.Error() + "\n")
		if err == errUsage {
			os.Stderr.WriteString(usage)
			os.Exit(2)
		}
		os.Exit(1)
	}
}

func runCommandLine(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	o, err := parse(args[0], args[1:])
	if err != nil {
		return err
	}
	switch args[0] {
	case "serve":
		return serve(o)
	case "connect":
		// What goes through this process is as worth protecting as what goes through the agent. It keeps the
		// capability that commands lack: the kernel lets none of them look into a process that has more than they.
		if err := Protect(capSysPtrace); err != nil {
			return err
		}
		return connect(o.socket, o.wait)
	case "version":
		os.Stdout.WriteString("openrt-agent " + version + " protocol " + strconv.Itoa(protocolVersion) + "\n")
		return nil
	}
	return errUsage
}

func parse(name string, args []string) (options, error) {
	o := options{socket: defaultSocket}
	if name == "serve" {
		o.wait = defaultLease
	}
	for ; len(args) > 0; args = args[2:] {
		if len(args) == 1 {
			return o, errUsage
		}
		switch {
		case args[0] == "--socket" && args[1] != "":
			o.socket = args[1]
		case args[0] == "--label" && name == "serve":
			// For whoever looks at the list of processes.
		case args[0] == "--owner" && args[1] == "socket" && name == "serve":
			o.joined = true
		case args[0] == "--wait":
			wait, err := strconv.ParseFloat(args[1], 64)
			if err != nil || !(wait >= 0) {
				return o, errUsage
			}
			o.wait = seconds(wait)
		default:
			return o, errUsage
		}
	}
	if o.joined && o.socket == "none" {
		return o, errUsage
	}
	return o, nil
}

// meet opens the socket for guests, nil when there is none, and returns the owner's streams.
func meet(o options, signals <-chan os.Signal) (socket, in, out *os.File, err error) {
	if o.socket != "none" {
		socket, err = listen(o.socket)
	}
	in, out = os.Stdin, os.Stdout
	if err == nil && o.joined {
		in, err = joinOwner(socket, o.wait, signals)
		out = in
	}
	if err != nil && !o.joined {
		// The owner can do without guests; they will be told that there is no socket.
		os.Stderr.WriteString("openrt-agent: no guests: " + err.Error() + "\n")
		err = nil
	}
	if err == nil && socket != nil {
		go acceptGuests(socket)
	}
	return socket, in, out, err
}

// serve serves until the owner's stream ends, and the time that the agent was to linger then, or until a signal
// comes (process 1 heeds none); and then leaves nothing behind.
func serve(o options) error {
	if err := Protect(capSysPtrace, capAuditWrite); err != nil {
		return err
	}
	StartReaper()
	syscall.Umask(0) // modes are what the client says; commands have an umask of their own
	signals := make(chan os.Signal, 1)
	if os.Getpid() == 1 {
		ignoreFatalSignals()
	} else {
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	}
	socket, in, out, err := meet(o, signals)
	if socket != nil {
		defer os.Remove(o.socket)
	}
	if err != nil {
		return err
	}
	owner := newConnection(in, out, true)
	go owner.serve()
	select {
	case <-owner.ended:
		linger(time.Duration(owner.linger.Load()), signals)
	case <-signals:
		owner.end(nil)
	}
	KillEverything()
	guests.Range(func(c, _ any) bool {
		c.(*connection).end(nil)
		return true
	})
	cleaned := make(chan struct{})
	go func() {
		fileWork.Wait()
		close(cleaned)
	}()
	waitFor(lastWords, cleaned)
	if owner.fatal != nil {
		waitFor(lastWords, owner.out.done)
	}
	return nil
}
