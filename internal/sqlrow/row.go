// Package sqlrow decides what a write to a session does, for the stores that lock
// the session's row, look at it, and then write: MySQL's and SQLite's. It is plain
// Go, without a database. Package sqlstore gives it rows and writes what it says.
package sqlrow

import (
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Row is a session as it is stored, dead or alive. A nil Row is one that is not
// there.
type Row struct {
	ID  int64
	Rec session.Record // its key has the bucket, also if it is a foreign one

	KeptTo     int32     // the last bucket of the keys that lead to it, its own included
	Ended      time.Time // zero: it was not
	Next       []byte    // hash of the successor, if it was renewed
	GraceUntil time.Time

	Now time.Time // by the database's clock, when the row was read
}

// Live reports whether the session is.
func (r *Row) Live() bool { return r.Ended.IsZero() && r.Now.Before(r.Rec.Expires) }

// InGrace reports whether its key still leads to its successor.
func (r *Row) InGrace() bool { return r.Next != nil && r.Now.Before(r.GraceUntil) }

// Successor is what it was renewed to.
func (r *Row) Successor() session.Key { return session.Key{Hash: [32]byte(r.Next)} }

// Is reports whether key, which has the row's hash, names it.
func (r *Row) Is(key session.Key) bool { return key.Bucket == 0 || key.Bucket == r.Rec.Key.Bucket }

// Fate is what became of the session.
func (r *Row) Fate() session.Fate {
	switch {
	case r == nil:
		return session.FateUnknown
	case r.Live():
		return session.FateLive
	case r.Next != nil:
		return session.FateRenewed
	case !r.Ended.IsZero() && r.Ended.Before(r.Rec.Expires):
		return session.FateEnded
	}
	return session.FateExpired
}

// Refusal says why the row is not to be written, or is nil. It is
// session.ErrConflict in the grace period of a renewal, and else
// session.ErrNotFound.
func (r *Row) Refusal() error {
	switch {
	case r == nil:
		return session.ErrNotFound
	case r.Live():
		return nil
	case r.InGrace():
		return session.ErrConflict
	}
	return session.ErrNotFound
}
