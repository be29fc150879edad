package sqlitestore

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/wait"
)

// endBatch is how many rows one transaction looks at to end their sessions. It is
// far more than others add meanwhile, so that the walk comes to an end.
const endBatch = 500

// maxPause bounds the pause between two steps.
const maxPause = 20 * time.Millisecond

// bulk ends many sessions in steps, each a transaction of its own. It walks
// along the ids, which only grow: what a session is renewed to between two
// steps, or is created, is still to come.
type bulk struct {
	// page selects what rowOf reads but the data, after an id, up to a number.
	page query
	args []any
	// spared, if set, reports which sessions are not ended.
	spared func(*sqlrow.Row) bool
}

// run returns how many sessions it has ended, when it fails as well.
func (b bulk) run(ctx context.Context, s *Store) (total int64, err error) {
	for after := int64(0); ; {
		began := time.Now()
		done, err := writeFirst(ctx, s, func(t *tx) (step, error) { return b.step(t, after) })
		total += done.live
		if err != nil || done.over {
			return total, err
		}
		after = done.last
		// Other processes look now and then whether they may write.
		if !wait.Sleep(ctx, min(max(time.Since(began), prunePause), maxPause)) {
			return total, wait.Ended(ctx)
		}
	}
}

// step is what one step has done.
type step struct {
	last int64 // the id up to which it came
	live int64 // how many it has ended that were live
	over bool  // no row is left
}

func (b bulk) step(t *tx, after int64) (done step, err error) {
	now := t.now()
	var rows []*sqlrow.Row
	err = t.query(context.Background(), b.page, func(v []driver.Value) error {
		r, err := rowOf(v, now)
		rows = append(rows, r)
		return err
	}, append(b.args[:len(b.args):len(b.args)], after, int64(endBatch))...)
	if err != nil {
		return done, err
	}
	for _, r := range rows {
		done.last = r.ID
		if !r.Ended.IsZero() || b.spared != nil && b.spared(r) {
			continue
		}
		if err := t.end(r); err != nil {
			return done, err
		}
		if r.Live() {
			done.live++
		}
	}
	done.over = len(rows) < endBatch
	return done, nil
}
