//go:build undefended_credit

package main

// For a test that shows what the defence is for: only an operation's own credit counts.
func (w *window) cut(most int64) int64 {
	n := max(min(most, w.room), 0)
	w.room -= n
	return n
}
