package invalidation

import "time"

// Instant is a reading of a node's two clocks. The monotonic one never steps
// but may stand still while the machine is suspended; the wall clock goes on,
// but steps when it is set. Together they tell that one of the two happened.
type Instant struct {
	Mono time.Duration // since the clock was made
	Wall time.Duration // since 1970
}

// clockSlack is by how much the wall clock may fall behind the monotonic one,
// or the two drift apart between two heartbeats, without a doubt.
const clockSlack = 250 * time.Millisecond

func systemClock() func() Instant {
	start := time.Now()
	return func() Instant {
		t := time.Now()
		return Instant{Mono: t.Sub(start), Wall: time.Duration(t.UnixNano())}
	}
}

func (i Instant) add(d time.Duration) Instant { return Instant{i.Mono + d, i.Wall + d} }

// reached reports whether either clock has come to i.
func (i Instant) reached(now Instant) bool { return now.Mono >= i.Mono || now.Wall >= i.Wall }

// jumped reports whether the clocks have drifted apart since i.
func (i Instant) jumped(now Instant) bool {
	drift := (now.Wall - i.Wall) - (now.Mono - i.Mono)
	return drift > clockSlack || drift < -clockSlack
}

// recent reports whether at most limit has passed since i by both clocks. A
// wall clock that was set back proves nothing.
func (i Instant) recent(now Instant, limit time.Duration) bool {
	mono, wall := now.Mono-i.Mono, now.Wall-i.Wall
	return mono <= limit && wall <= limit && wall >= mono-clockSlack
}
