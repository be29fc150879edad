package mysqlstore

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// tx is the transaction that a write runs in.
type tx struct {
	*conn
	s    *Store
	ctx  context.Context
	lost error // of an attempt whose outcome is open: this write may be done already
}

// within bounds a write by Options.WriteTimeout.
func (s *Store) within(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	return s.lasting(ctx, what, time.Now().Add(s.opts.WriteTimeout))
}

// lasting is within for a write that began earlier, or that has later callers.
func (s *Store) lasting(ctx context.Context, what string, until time.Time) (context.Context, context.CancelFunc) {
	return context.WithDeadlineCause(ctx, until,
		fmt.Errorf("%s took longer than Options.WriteTimeout, %v: %w", what, s.opts.WriteTimeout, context.DeadlineExceeded))
}

// write runs f in a transaction of its own and returns what f returned, once
// that is committed. f may be called again.
func write[T any](ctx context.Context, s *Store, what string, f func(*tx) (T, error)) (T, error) {
	return writeBy(ctx, s, s.writes, what, f)
}

// writeBy is write with a connection of g.
func writeBy[T any](ctx context.Context, s *Store, g *gate, what string, f func(*tx) (T, error)) (T, error) {
	var none, result T
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return none, err
	}
	defer leave()
	ctx, cancel := s.within(ctx, what)
	defer cancel()
	err = s.untilKnown(ctx, nil, nil, func(lost error) error {
		return g.do(ctx, func(c *conn) error {
			return c.transaction(ctx, func() (err error) {
				result, err = f(&tx{conn: c, s: s, ctx: ctx, lost: lost})
				return err
			})
		})
	})
	if err != nil {
		s.refused(err)
		return none, err
	}
	return result, nil
}

func (s *Store) refused(err error) {
	if storekit.IsRefusal(err) && !errors.Is(err, session.ErrUnknown) {
		s.stats.refused.Add(1)
	}
}

// retryReadOnly is how long a server that takes no writes is tried, by new
// connections: they may lead to another one after a failover.
const retryReadOnly = 500 * time.Millisecond

// untilKnown makes attempts until the outcome is known, or ctx ends. Each
// attempt is told the error of an earlier one whose outcome is open; lost is
// such an error from before the call.
func (s *Store) untilKnown(ctx context.Context, lost, kept error, attempt func(lost error) error) error {
	cuts, began := 0, time.Now()
	for try := 1; ; try++ {
		err := attempt(lost)
		if err == nil {
			return nil
		}
		if storekit.IsRefusal(err) || errors.Is(err, session.ErrUnknown) {
			return s.counted(err)
		}
		again := lost != nil
		switch outcomeOf(err) {
		case txOpen:
			lost, again = err, true
		case txConflict, txBusy:
			again = true
		case txCut:
			cuts++
			again = again || cuts < askAgain
		case txLocked:
			again = mayWait(ctx)
		case txReadOnly:
			again = again || time.Since(began) < retryReadOnly
		}
		if again && storekit.Backoff().Pause(ctx, try) {
			s.stats.retries.Add(1)
			kept = err
			continue
		}
		err = after(ctx, err, kept)
		if lost != nil {
			return s.counted(storekit.StillUnknown(ctx, lost, err))
		}
		return wait.Because(ctx, err)
	}
}

// after adds to the error of an attempt that ctx ended what the one before it
// failed with: a lock that is kept, a server that is full.
func after(ctx context.Context, err, kept error) error {
	if kept == nil || wait.Ended(ctx) == nil || numberOf(err) != 0 || errors.Is(err, kept) {
		return err
	}
	return fmt.Errorf("%w; before that: %w", err, kept)
}

func (s *Store) counted(err error) error {
	if errors.Is(err, session.ErrUnknown) {
		s.stats.unknown.Add(1)
	}
	return err
}

// lockWait is how long the server lets the store's connections wait for a lock,
// with time for the answer. innodb_lock_wait_timeout is a second, but MySQL
// looks but once in a second. A write that has less time left does not begin to
// wait: if ctx ended first, the outcome would be unknown.
const lockWait = 2200 * time.Millisecond

func mayWait(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(end) > lockWait)
}

// lock returns the row of that hash, dead or alive, or nil, and keeps it. Its
// time is one after it was locked.
func (t *tx) lock(hash [32]byte) (*sqlrow.Row, error) {
	sent := time.Now()
	r, err := t.rowOf(t.ctx, lock, session.Key{Hash: hash})
	switch {
	case err != nil || r == nil:
		return r, err
	case !t.instant:
		r.Now, err = t.now()
		return r, err
	}
	t.s.clock.observe(sent, r.Now, time.Now())
	return r, nil
}

// lockKey is lock for the row that key names.
func (t *tx) lockKey(key session.Key) (*sqlrow.Row, error) {
	if !storekit.Possible(key) {
		return nil, nil
	}
	r, err := t.lock(key.Hash)
	if err != nil || r == nil || !r.Is(key) {
		return nil, err
	}
	return r, nil
}

// now asks the database for its time.
func (t *tx) now() (time.Time, error) {
	sent := time.Now()
	micros, _, err := t.maybeNumber(t.ctx, now)
	if err != nil {
		return time.Time{}, err
	}
	at := storekit.Time(micros)
	t.s.clock.observe(sent, at, time.Now())
	return at, nil
}

// lockSome locks those rows of hashes, which are sorted, that exist and that
// nobody else holds, in that order. It returns them, dead or alive.
func (t *tx) lockSome(hashes [][32]byte) (map[[32]byte]*sqlrow.Row, error) {
	rows := make(map[[32]byte]*sqlrow.Row, len(hashes))
	sent := time.Now()
	err := t.query(t.ctx, text{lockSome, sizeFor(len(hashes))}, func(v []driver.Value) error {
		r, err := rowOf(v)
		rows[r.Rec.Key.Hash] = r
		return err
	}, hashArgs(nil, hashes)...)
	if err == nil {
		for _, r := range rows {
			t.s.clock.observe(sent, r.Now, time.Now())
			break
		}
	}
	return rows, err
}

// lockAll is lockSome, but waits for rows that others hold.
func (t *tx) lockAll(hashes [][32]byte) (map[[32]byte]*sqlrow.Row, error) {
	sortHashes(hashes)
	rows := make(map[[32]byte]*sqlrow.Row, len(hashes))
	if len(hashes) == 0 {
		return rows, nil
	}
	err := t.query(t.ctx, text{lockEach, sizeFor(len(hashes))}, func(v []driver.Value) error {
		r, err := rowOf(v)
		rows[r.Rec.Key.Hash] = r
		return err
	}, hashArgs(nil, hashes)...)
	if err != nil || t.instant {
		return rows, err
	}
	now, err := t.now()
	for _, r := range rows {
		r.Now = now
	}
	return rows, err
}

func sortHashes(hashes [][32]byte) { slices.SortFunc(hashes, compareHashes) }

func compareHashes(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }

// hashArgs appends hashes as arguments of a statement for sizeFor of them.
func hashArgs(args []any, hashes [][32]byte) []any {
	for i := range sizeFor(len(hashes)) {
		args = append(args, hashes[min(i, len(hashes)-1)][:])
	}
	return args
}
