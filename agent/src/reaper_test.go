package main

import (
	"os"
	"sync"
	"syscall"
	"testing"
)

func TestStraysAreKilled(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	// A child of the agent that is no shim, as an orphan from outside would be.
	p := nasty(t, nil, "daemons")
	until(t, "its processes", func() bool { return len(others()) >= 7 })
	killShim(t, p)
	await(t, "the end of all", p.Gone())
	if left := others(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestKillEverything(t *testing.T) {
	if !isolated(t) {
		return
	}
	needRoot(t)
	if os.Getpid() != 1 {
		t.Skip("not process 1")
	}
	defer func() {
		registry.Lock()
		registry.closing = false
		registry.Unlock()
	}()
	var programs []*Program
	for range 5 {
		programs = append(programs, nasty(t, nil, "daemons", "hoppers", "thread"))
	}
	KillEverything()
	if left := others(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, p := range programs {
		await(t, "the end of all", p.Gone())
	}
	expectCode(t, shell("true"), "start", syscall.ESHUTDOWN)
}

func TestStartAndKillAtOnce(t *testing.T) {
	if !isolated(t) {
		return
	}
	var all sync.WaitGroup
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 25 {
				p, fail := StartProgram(shell("sleep 1000 & sleep 1000"))
				if fail != nil {
					t.Error(fail)
					return
				}
				var both sync.WaitGroup
				both.Add(2)
				go func() { p.KillTree(); both.Done() }()
				go func() { p.KillTree(); both.Done() }()
				both.Wait()
				<-p.Gone()
				p.closeFiles()
			}
		}()
	}
	all.Wait()
}
