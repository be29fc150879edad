package faultproxy

import "time"

// Mode is what happens to the bytes of one direction. The zero value is Pass.
type Mode struct {
	kind  modeKind
	delay time.Duration
	bytes int
}

type modeKind int

const (
	pass modeKind = iota
	delayed
	stalled
	dropped
	cutAfter
	resetAfter
)

// Pass forwards everything at once.
func Pass() Mode { return Mode{} }

// Delay forwards everything d after it arrived.
func Delay(d time.Duration) Mode { return Mode{kind: delayed, delay: d} }

// Stall holds everything back and delivers it once another mode is set, as TCP
// does over a network that was interrupted.
func Stall() Mode { return Mode{kind: stalled} }

// Drop forgets everything and keeps the connection open. A connection that has
// lost bytes stays silent in this direction in every later mode.
func Drop() Mode { return Mode{kind: dropped} }

// CutAfter forwards n more bytes of each connection and closes it.
func CutAfter(n int) Mode { return Mode{kind: cutAfter, bytes: n} }

// ResetAfter forwards n more bytes of each connection and resets it (RST).
func ResetAfter(n int) Mode { return Mode{kind: resetAfter, bytes: n} }
