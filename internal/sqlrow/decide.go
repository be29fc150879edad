package sqlrow

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Save is what a save of rec comes to, which gives the session the version
// becomes. If that has expired by r.Now, the save ends the session. Unless it
// mayEnd it, the node that sent it was wrong about the time, and it is
// session.ErrDeadline.
func (r *Row) Save(rec session.Record, becomes int64, mayEnd bool) (session.Record, error) {
	if err := r.Refusal(); err != nil {
		return session.Record{}, err
	}
	switch {
	case r.Rec.Version != rec.Version:
		return session.Record{}, session.ErrConflict
	case r.Rec.User != rec.User:
		return session.Record{}, session.ErrUserChanged
	}
	return r.replaced(rec, becomes), r.inTime(rec, mayEnd)
}

func (r *Row) inTime(rec session.Record, mayEnd bool) error {
	if rec.Expires.IsZero() || mayEnd || r.Now.Before(rec.Expires) {
		return nil
	}
	return fmt.Errorf("%w: Record.Expires has passed, which it had not by this node's clock", session.ErrDeadline)
}

// replaced is a live row with new data and, if rec has one, a new expiry.
func (r *Row) replaced(rec session.Record, becomes int64) session.Record {
	out := r.Rec
	out.Key, out.Data, out.Version = rec.Key, rec.Data, becomes
	if !rec.Expires.IsZero() {
		out.Expires = storekit.Earlier(storekit.Expiry(rec.Expires), r.Rec.Deadline)
	}
	return out
}

// WasSaved tells what came of a save whose answer was lost: what it wrote, or nil
// if it did not. Its version tells, unless something else came after it.
func (r *Row) WasSaved(rec session.Record, becomes int64, lost error) (*session.Record, error) {
	switch {
	case r == nil:
		return nil, nil
	case r.Rec.Version == becomes:
		out := r.replaced(rec, becomes)
		return &out, nil
	case r.Rec.Version > becomes, !r.Ended.IsZero():
		return nil, storekit.Unknown(lost) // it may have come after this one, or be its doing
	}
	return nil, nil
}

// Touch is what a touch comes to: the expiry that is in force then, and whether it
// is to be written.
func (r *Row) Touch(expires time.Time) (inForce time.Time, write bool, err error) {
	err = r.Refusal()
	if errors.Is(err, session.ErrConflict) {
		err = session.ErrNotFound // a renewed key is not touched
	}
	if err != nil {
		return time.Time{}, false, err
	}
	later := storekit.Earlier(expires, r.Rec.Deadline)
	if !later.After(r.Rec.Expires) {
		return r.Rec.Expires, false, nil
	}
	return later, true, nil
}

// Put is what a Put of rec comes to where there is a row of its hash: with
// another bucket it would be another session's. The version of rec is how far
// that of the session goes. mayEnd is as in Save, and lost of an earlier attempt.
func (r *Row) Put(rec session.Record, mayEnd bool, lost error) (session.Record, error) {
	switch {
	case !r.Is(rec.Key):
		return session.Record{}, storekit.Invalid("Record.Key has bucket %d; that of its deadline is %d", rec.Key.Bucket, r.Rec.Key.Bucket)
	case !r.Live() && lost != nil:
		return session.Record{}, storekit.Unknown(lost) // it may have been this one that ended it
	case !r.Live():
		return session.Record{}, session.ErrNotFound // also in the grace period of a renewal
	case rec.User != "" && rec.User != r.Rec.User:
		return session.Record{}, session.ErrUserChanged
	}
	return r.replaced(rec, r.Rec.Version+rec.Version), r.inTime(rec, mayEnd)
}

// PutNew is what a Put of rec creates where there is no row of its hash.
func PutNew(rec session.Record, limits storekit.Limits, now time.Time) (session.Record, error) {
	if rec.Deadline.IsZero() {
		rec.Deadline = limits.PutDeadline(rec.Key, now)
	}
	if rec.Expires.After(rec.Deadline) {
		rec.Expires = time.Time{} // the deadline, as it is kept
	}
	return limits.New(rec, now)
}

// WasCreated tells what came of the creation of rec when its answer was lost:
// what it made, or nil if there is no row of its hash.
func (r *Row) WasCreated(rec session.Record, lost error) (*session.Record, error) {
	switch {
	case r == nil:
		return nil, nil
	case r.Rec.Version > rec.Version:
		return nil, storekit.Unknown(lost) // it may have come after this one
	case r.Rec.Version < rec.Version:
		return nil, session.ErrExists
	}
	rec.Created = r.Rec.Created
	return &rec, nil
}

// Renew says whether a session of that version can be renewed, and since when the
// new one is the user's.
func (r *Row) Renew(rec session.Record, version int64) (created time.Time, err error) {
	if err := r.Refusal(); err != nil {
		return time.Time{}, err
	}
	if r.Rec.Version != version {
		return time.Time{}, session.ErrConflict
	}
	if r.Rec.User == rec.User {
		return r.Rec.Created, nil
	}
	return r.Now, nil
}

// RenewedTo reports whether the row was renewed to key.
func (r *Row) RenewedTo(key session.Key) bool { return r != nil && bytes.Equal(r.Next, key.Hash[:]) }
