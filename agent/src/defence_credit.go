//go:build !undefended_credit

package main

func (w *window) cut(most int64) int64 {
	n := max(min(most, w.given, w.room), 0)
	w.given -= n
	w.room -= n
	return n
}
