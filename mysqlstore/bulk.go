package mysqlstore

import (
	"context"
	"database/sql/driver"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
)

// endBatch is how many rows one transaction looks at to end their sessions.
const endBatch = 500

// bulk ends many sessions in steps. A step is a transaction, has a write timeout
// of its own, looks at no more than endBatch rows and waits for none of them. It
// walks along the ids, which only grow: what a session is renewed to once the
// step is over is still to come.
type bulk struct {
	what string
	// guard, if set, takes the lock that keeps others from adding sessions to
	// the walk.
	guard func(*tx) error
	// page selects id, hash and whether it is live, after an id, up to a number.
	page query
	args []any
	// spared, if set, reports which sessions are not ended.
	spared func(*sqlrow.Row) bool
}

// run returns how many sessions it has ended, when it fails as well.
func (b bulk) run(ctx context.Context, s *Store) (total int64, err error) {
	for after := int64(0); ; {
		done, err := write(ctx, s, b.what, func(t *tx) (step, error) { return b.step(t, after) })
		total += done.live
		switch {
		case err != nil:
			return total, err
		case done.left != nil:
			// The row is waited for without the guard and without other rows.
			// Then the step is done again.
			live, err := writeBy(ctx, s, s.waits, b.what, func(t *tx) (int64, error) { return b.follow(t, *done.left) })
			total += live
			if err != nil {
				return total, err
			}
		case done.rows < endBatch:
			return total, nil
		default:
			after = done.last
		}
	}
}

// step is what one step has done.
type step struct {
	rows int       // that it looked at
	last int64     // the highest id
	live int64     // how many it has ended that were live
	left *[32]byte // one that others hold, or have renewed since it was found
}

func (b bulk) step(t *tx, after int64) (done step, err error) {
	if b.guard != nil {
		if err := b.guard(t); err != nil {
			return done, err
		}
	}
	var found [][32]byte
	err = t.query(t.ctx, one(b.page), func(v []driver.Value) error {
		scan := scanner(v)
		done.rows++
		done.last = scan.Number()
		hash := [32]byte(scan.Hash())
		if scan.Number() == 1 {
			found = append(found, hash)
		}
		return scan.Err
	}, append(b.args[:len(b.args):len(b.args)], after, int64(endBatch))...)
	if err != nil || len(found) == 0 {
		return done, err
	}
	sortHashes(found)
	rows, err := t.lockSome(found)
	if err != nil {
		return done, err
	}
	var doomed []*sqlrow.Row
	for _, hash := range found {
		switch r := rows[hash]; {
		case r == nil || r.Next != nil:
			done.left = &hash
		case !r.Ended.IsZero(): // since it was found
		case b.spared == nil || !b.spared(r):
			doomed = append(doomed, r)
			if r.Live() {
				done.live++
			}
		}
	}
	return done, t.endAll(doomed)
}

// follow ends what a session has become. It overtakes a client that renews as
// fast as it can, since a renewal has to lock the row that it replaces.
func (b bulk) follow(t *tx, hash [32]byte) (live int64, err error) {
	r, err := t.lock(hash)
	for err == nil && r != nil && r.Next != nil {
		r, err = t.lock([32]byte(r.Next))
	}
	if err != nil || r == nil || !r.Ended.IsZero() || b.spared != nil && b.spared(r) {
		return 0, err
	}
	if r.Live() {
		live = 1
	}
	return live, t.end(r)
}
