package memstore

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// table is what is stored, and how a row lives and dies. All is guarded by the
// lock, which is a channel because the wait for it ends with a context.
type table struct {
	lock  chan struct{}
	rows  map[[sha256.Size]byte]*row
	users map[string]map[*row]struct{} // of rows that are not ended
	seq   uint64
}

// row is a session, or the tombstone of one: it stays when the session dies, so
// that its key cannot be used again.
type row struct {
	rec    session.Record // Expires is never after Deadline
	bucket int32          // the deadline's, also if the key has none
	seq    uint64         // order of creation

	ended      bool
	expired    bool // it ended by expiring, as pruning found
	successor  *row // set if it was renewed
	graceUntil time.Time
}

func newTable() *table {
	return &table{lock: make(chan struct{}, 1), rows: map[[sha256.Size]byte]*row{}, users: map[string]map[*row]struct{}{}}
}

func (t *table) acquire(ctx context.Context) error {
	select {
	case t.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *table) release() { <-t.lock }

func (r *row) live(now time.Time) bool { return !r.ended && now.Before(r.rec.Expires) }

func (r *row) inGrace(now time.Time) bool { return r.successor != nil && now.Before(r.graceUntil) }

func (r *row) fate(now time.Time) session.Fate {
	switch {
	case r == nil:
		return session.FateUnknown
	case r.live(now):
		return session.FateLive
	case r.successor != nil:
		return session.FateRenewed
	case r.ended && !r.expired:
		return session.FateEnded
	}
	return session.FateExpired
}

// find returns the row of key, dead or alive, or nil.
func (t *table) find(key session.Key) *row {
	r := t.rows[key.Hash]
	if r == nil || key.Bucket != 0 && key.Bucket != r.bucket {
		return nil
	}
	return r
}

// head returns the row of what key stands for, however often it was renewed, or
// nil.
func (t *table) head(key session.Key) *row {
	r := t.find(key)
	for r != nil && r.successor != nil {
		r = r.successor
	}
	return r
}

// writable returns the live row of key itself, without following a renewal.
func (t *table) writable(key session.Key, now time.Time) (*row, error) {
	r := t.find(key)
	switch {
	case r == nil:
		return nil, session.ErrNotFound
	case r.live(now):
		return r, nil
	case r.inGrace(now):
		return nil, session.ErrConflict
	}
	return nil, session.ErrNotFound
}

func (t *table) insert(r *row) {
	t.seq++
	r.seq = t.seq
	t.rows[r.rec.Key.Hash] = r
	if r.rec.User == "" {
		return
	}
	if t.users[r.rec.User] == nil {
		t.users[r.rec.User] = map[*row]struct{}{}
	}
	t.users[r.rec.User][r] = struct{}{}
}

// end makes r a tombstone.
func (t *table) end(r *row) {
	if of := t.users[r.rec.User]; of != nil {
		delete(of, r)
		if len(of) == 0 {
			delete(t.users, r.rec.User)
		}
	}
	r.ended, r.rec.Data, r.rec.User = true, nil, ""
}

func (t *table) renew(old, successor *row, now time.Time, grace time.Duration) {
	t.end(old)
	t.insert(successor)
	old.successor, old.graceUntil = successor, now.Add(grace)
	if old.rec.Deadline.Before(old.graceUntil) {
		old.graceUntil = old.rec.Deadline
	}
}
