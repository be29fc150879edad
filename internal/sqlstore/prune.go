package sqlstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/internal/worker"
	"github.com/sojourn-go/sojourn/session"
)

// Turn is which node pruned last and when, as the meta row has it, and up to
// which ID the table has been looked through.
type Turn struct {
	At      time.Time
	By      string
	SweptTo int64
}

// pruning is this node's part in removing dead sessions.
type pruning struct {
	worker worker.Worker

	mu     sync.Mutex
	total  session.Pruned
	latest Turn
}

func (p *pruning) report(st *session.Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st.Pruned = p.total
	st.Maintained, st.MaintainedBy = p.latest.At, p.latest.By
}

// NoteTurn takes note of the turn that was read last.
func (e *Engine) NoteTurn(latest Turn) {
	e.pruning.mu.Lock()
	defer e.pruning.mu.Unlock()
	e.latest = latest
}

func (p *pruning) add(some session.Pruned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total.Rows += some.Rows
	p.total.Emptied += some.Emptied
}

// StartPruning is session.Pruner.StartPruning: run does the passes until its
// context ends.
func (e *Engine) StartPruning(run func(context.Context)) { e.worker.Start(run) }

// StopPruning is session.Pruner.StopPruning.
func (e *Engine) StopPruning(ctx context.Context) error {
	if e.closed.Load() {
		return e.Wrap("stop pruning", session.ErrClosed)
	}
	return e.Wrap("stop pruning", e.worker.Stop(ctx))
}

// PruneNowAndThen does passes until ctx ends. Next and interval are Options.
func (e *Engine) PruneNowAndThen(ctx context.Context, next func() time.Duration, interval time.Duration, pass func(context.Context) error) {
	for {
		if err := pass(ctx); err != nil && ctx.Err() == nil && !e.closed.Load() {
			e.BackgroundError("prune", err)
		}
		if !wait.Sleep(ctx, storekit.NextPrune(next, storekit.PruneInterval(interval))) {
			return
		}
	}
}

// Pass is one of pruning, in steps. Only one is under way at a time.
type Pass struct {
	Table Table
	// Rows is how many rows, or IDs, one step is about, at most.
	Rows int64
	// Step, if set, is how long a step may take that changes something: the next one
	// after a longer one is smaller.
	Step time.Duration
	// Part says to look through a part of the table only, for what has been idle.
	Part bool
	// Pause is how long to wait after a step that took so long and changed so many
	// rows; 0: not at all.
	Pause func(took time.Duration, changed int64) time.Duration
}

// Table is what a pass does. Each call is a transaction, or several, and may take
// long if others keep rows locked.
type Table interface {
	// Retire deletes rows whose bucket has passed, and the buckets of all keys that
	// lead to them, by the retire grace, up to that many. It goes by the bucket, not
	// the deadline: until the bucket has passed, another deadline would make the key
	// good again.
	Retire(ctx context.Context, most int64) (rows int64, err error)
	// Extent is the highest ID, 0 if there is no row, and the ID up to which passes
	// have looked.
	Extent(ctx context.Context) (last, swept int64, err error)
	// Sweep looks for the first ID above after; 0 if there is none. Of that and the
	// IDs that follow, so many together, it makes tombstones of sessions that have
	// been idle for longer than any write that began before can last.
	Sweep(ctx context.Context, after, ids int64) (first, emptied int64, err error)
	// SetSwept notes up to which ID passes have looked.
	SetSwept(ctx context.Context, to int64) error
}

// sweepPasses is how many passes look through the whole table for sessions that
// have been idle for long: about as many as there are in an hour by default.
const sweepPasses = 60

// Prune does a pass, counts and logs what it has done, and returns that, when it
// fails as well.
func (e *Engine) Prune(ctx context.Context, p Pass) (session.Pruned, error) {
	w := &sweeper{e: e, Pass: p, rows: p.Rows}
	if p.Step > 0 {
		w.rows = min(p.Rows, fewRows)
	}
	err := w.retire(ctx)
	if err == nil {
		err = w.sweep(ctx)
	}
	if w.done != (session.Pruned{}) {
		e.Log.Info("pruned", zap.Int64("rows", w.done.Rows), zap.Int64("emptied", w.done.Emptied))
	}
	return w.done, err
}

// sweeper does a pass.
type sweeper struct {
	Pass
	e    *Engine
	rows int64 // of the next step
	done session.Pruned
}

// fewRows is how many rows a step has that must not take long, until it is known how
// long they take, and at least.
const fewRows = 16

// paced does a step and pauses.
func (w *sweeper) paced(ctx context.Context, f func() (session.Pruned, error)) error {
	began := time.Now()
	some, err := f()
	took := time.Since(began)
	w.done.Rows += some.Rows
	w.done.Emptied += some.Emptied
	w.e.add(some)
	if err != nil {
		return err
	}
	changed := some.Rows + some.Emptied
	if w.Step > 0 && changed > 0 {
		w.resize(took)
	}
	pause := w.Pause(took, changed)
	if pause > 0 && !wait.Sleep(ctx, pause) {
		return wait.Ended(ctx)
	}
	return nil
}

// resize has the next step take about as long as one may.
func (w *sweeper) resize(took time.Duration) {
	switch {
	case took > w.Step:
		w.rows = max(w.rows/2, min(fewRows, w.Rows))
	case took < w.Step/2:
		w.rows = min(2*w.rows, w.Rows)
	}
}

func (w *sweeper) retire(ctx context.Context) error {
	for more := true; more; {
		err := w.paced(ctx, func() (session.Pruned, error) {
			most := w.rows
			rows, err := w.Table.Retire(ctx, most)
			more = rows == most
			return session.Pruned{Rows: rows}, err
		})
		if err != nil {
			return fmt.Errorf("delete what is past its deadline: %w", err)
		}
	}
	return nil
}

// sweep walks along the IDs of the table, or of the next part of it. After the
// last part the first one is next.
func (w *sweeper) sweep(ctx context.Context) error {
	if err := w.sweepPart(ctx); err != nil {
		return fmt.Errorf("empty what has long been idle: %w", err)
	}
	return nil
}

func (w *sweeper) sweepPart(ctx context.Context) error {
	last, after, err := w.Table.Extent(ctx)
	if err != nil {
		return err
	}
	to := min(last, after+max(last/sweepPasses, 20*w.Rows))
	if !w.Part {
		after, to = 0, last
	}
	for after < to {
		err := w.paced(ctx, func() (session.Pruned, error) {
			ids := w.rows
			first, emptied, err := w.Table.Sweep(ctx, after, ids)
			after = first + ids - 1
			if first == 0 {
				after = to
			}
			return session.Pruned{Emptied: emptied}, err
		})
		if err != nil {
			return err
		}
	}
	switch {
	case !w.Part:
		return nil
	case after >= last:
		after = 0
	}
	return w.Table.SetSwept(ctx, after)
}
