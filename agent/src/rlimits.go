package main

import (
	"math"
	"sync/atomic"
	"syscall"
	_ "unsafe" // for go:linkname
)

// The numbers are those of asm-generic/resource.h, which amd64 and arm64 share.
var rlimitNumbers = map[string]uintptr{
	"cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7,
	"memlock": 8, "as": 9, "locks": 10, "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14, "rttime": 15,
}

// Go raises the soft limit of open files of its own process and keeps the first
// value here. Commands must start with the one the sandbox gave.
//
//go:linkname firstNofile syscall.origRlimitNofile
var firstNofile atomic.Pointer[syscall.Rlimit]

type limitCall struct {
	resource uintptr
	value    syscall.Rlimit
}

func limitCalls(wanted map[string][2]int64) ([]limitCall, *Failure) {
	calls := make([]limitCall, 0, len(wanted)+1)
	if first := firstNofile.Load(); first != nil {
		calls = append(calls, limitCall{rlimitNumbers["nofile"], *first})
	}
	for name, pair := range wanted {
		number, known := rlimitNumbers[name]
		if !known || pair[0] < -1 || pair[1] < -1 {
			return nil, failure("start", "rlimit "+name, syscall.EINVAL)
		}
		calls = append(calls, limitCall{number, syscall.Rlimit{Cur: limitValue(pair[0]), Max: limitValue(pair[1])}})
	}
	return calls, nil
}

func limitValue(v int64) uint64 {
	if v == -1 {
		return math.MaxUint64
	}
	return uint64(v)
}
