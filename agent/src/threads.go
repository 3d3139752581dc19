//go:build !race

package main

// The system calls that change the agent's capabilities reach every thread from Go.
const droppedBefore = false
