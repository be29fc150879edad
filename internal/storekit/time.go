package storekit

import "time"

// The first and the last time that can be kept. What lies beyond is kept as
// them, which is before or after every deadline that a store takes.
var (
	first = time.Unix(0, 0).UTC()
	last  = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Deadline rounds a deadline up to whole microseconds; rounded down it could
// fall into another bucket.
func Deadline(t time.Time) time.Time {
	kept := Expiry(t)
	if kept.Before(t) && kept.Before(last) {
		kept = kept.Add(time.Microsecond)
	}
	return kept
}

// Expiry rounds any other time down to whole microseconds, in UTC.
func Expiry(t time.Time) time.Time {
	switch {
	case t.Before(first):
		return first
	case t.After(last):
		return last
	}
	return t.UTC().Truncate(time.Microsecond)
}

// Exact is a time as it is, in UTC, without what only this process can compare.
func Exact(t time.Time) time.Time { return t.UTC().Round(0) }

// Micros is a time as a number: microseconds since 1970 UTC. It takes what
// Deadline or Expiry return.
func Micros(t time.Time) int64 { return t.UnixMicro() }

// Time is the time of such a number, in UTC.
func Time(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// Earlier returns the earlier of two times.
func Earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
