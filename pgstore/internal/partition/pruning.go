package partition

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/internal/worker"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/pglock"
	"github.com/sojourn-go/sojourn/session"
)

// Pruning is this node's part in the maintenance of the table. One node leads
// and does a pass now and then, on the very connection that holds its lock.
type Pruning struct {
	table  *Table
	opts   PruneOptions
	worker worker.Worker

	mu       sync.Mutex
	state    leader.State
	total    session.Pruned
	limits   map[string]string // by what brings them about
	failures failures
	sweep    sweeper // of this node's passes in the background
}

// PruneOptions say how a node maintains its table.
type PruneOptions struct {
	NodeName string
	Premake  time.Duration        // how much further ahead than the longest lifetime
	Pause    func() time.Duration // asked before each wait for the next pass

	// LockKey is the number of an advisory lock of the table, and Locker opens
	// connections that can hold one for long.
	LockKey func(purpose string) int64
	Locker  func(purpose string) (leader.Locker[*pgx.Conn], error)

	// Notify has the other nodes look at the partitions.
	Notify func(context.Context, *pgx.Conn) error
	// FailedAgain is called for a failure of which Options.Failed was told before.
	FailedAgain func()
	Log         *zap.Logger
}

// NewPruning returns a part in maintenance that has not begun.
func NewPruning(table *Table, opts PruneOptions) *Pruning {
	return &Pruning{table: table, opts: opts, limits: map[string]string{}, failures: failures{}}
}

// Start has this node take part.
func (p *Pruning) Start() { p.worker.Start(p.run) }

// Stop ends that, and waits until a pass that is under way has ended.
func (p *Pruning) Stop(ctx context.Context) error { return p.worker.Stop(ctx) }

// Close is Stop for good.
func (p *Pruning) Close(ctx context.Context) error { return p.worker.Close(ctx) }

// Report fills in what is known of passes.
func (p *Pruning) Report(st *session.Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st.Pruned = p.total
	st.Leading, st.Term = p.state.Leading, uint64(p.state.Term)
	for _, why := range []string{"connection", "role"} {
		if limit := p.limits[why]; limit != "" {
			st.Limits += strings.Repeat("; ", min(1, len(st.Limits))) + limit
		}
	}
}

func (p *Pruning) add(done session.Pruned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total.Retired += done.Retired
	p.total.Made += done.Made
	p.total.Rows += done.Rows
	p.total.Emptied += done.Emptied
}

// limit notes what this node cannot do, by its reason. An empty text says that
// it can.
func (p *Pruning) limit(why, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits[why] = text
}

const (
	// passLimit is how long a pass may take. It bounds how long a dead connection
	// may go unnoticed while a statement runs.
	passLimit = 10 * time.Minute

	// A node that may not retire partitions stands for election only if the
	// lock was free for longer than other nodes take to ask for it. It leads
	// for no longer than unfitTerm: then a node that may retire has its chance.
	leaveToOthers = 2 * time.Second
	unfitTerm     = time.Minute
)

func (p *Pruning) run(ctx context.Context) {
	locker, err := p.opts.Locker("leader")
	if err != nil {
		p.table.opts.Failed("take part in maintenance", err)
		return
	}
	err = leader.Run(ctx, pglock.Reluctant(locker, leaveToOthers, p.fit), leader.Options{
		Logger: p.opts.Log,
		OnChange: func(state leader.State) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.state = state
		},
	}, p.lead)
	if errors.Is(err, leader.ErrPooled) {
		p.limit("connection", withoutDetachConcurrently)
		p.opts.Log.Warn(withoutDetachConcurrently + "; nodes take turns in maintenance")
		p.takeTurns(ctx)
		return
	}
	if err != nil && ctx.Err() == nil {
		p.table.opts.Failed("take part in maintenance", err)
	}
}

// fit reports whether a node may do all of a pass on a connection.
func (p *Pruning) fit(ctx context.Context, conn *pgx.Conn) (bool, error) {
	may, _, err := p.mayRetire(ctx, conn)
	return may, err
}

// lead does passes for as long as this node leads.
func (p *Pruning) lead(leading context.Context, term *leader.Term[*pgx.Conn]) error {
	for {
		fit := true
		err := term.Do(leading, passLimit, func(ctx context.Context, conn *pgx.Conn) error {
			fit = p.passInBackground(ctx, hand{p: p, conn: conn})
			return nil
		})
		if leading.Err() != nil {
			return nil
		}
		p.note("maintain", err)
		pause := p.opts.Pause()
		if !fit {
			pause = min(pause, unfitTerm)
		}
		if !wait.Sleep(leading, pause) || !fit {
			return nil
		}
	}
}

// takeTurns does passes without leading.
func (p *Pruning) takeTurns(ctx context.Context) {
	for {
		limited, cancel := context.WithTimeout(ctx, passLimit)
		h, done, err := p.pooledHand(limited)
		if err == nil {
			p.passInBackground(limited, h)
			done()
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		p.note("maintain", err)
		if !wait.Sleep(ctx, p.opts.Pause()) {
			return
		}
	}
}

// passInBackground runs one pass and logs what failed. It reports whether this
// node may do all of it.
func (p *Pruning) passInBackground(ctx context.Context, h hand) (fit bool) {
	r := p.pass(ctx, h, &p.sweep)
	p.add(r.done)
	for _, step := range r.steps {
		if ctx.Err() != nil && step.err != nil {
			continue // it was cut off, which is no news
		}
		p.note(step.what, step.err)
	}
	return r.fit
}

// Now does a pass, on a connection of its own, and returns all that failed.
func (p *Pruning) Now(ctx context.Context) (session.Pruned, error) {
	h, done, err := p.ownHand(ctx)
	if errors.Is(err, leader.ErrPooled) {
		h, done, err = p.pooledHand(ctx)
	}
	if err != nil {
		return session.Pruned{}, err
	}
	defer done()
	r := p.pass(ctx, h, &sweeper{})
	p.add(r.done)
	return r.done, r.err(ctx)
}

// note says of a step that it fails, once for each reason, and that it works
// again. It counts what it does not say.
func (p *Pruning) note(step string, err error) {
	p.mu.Lock()
	known, times := p.failures.note(step, err)
	p.mu.Unlock()
	switch {
	case err == nil && times > 0:
		p.opts.Log.Info("maintenance works again", zap.String("step", step), zap.Int("failures", times))
	case err == nil:
	case known:
		p.opts.FailedAgain()
	default:
		p.table.opts.Failed(step, err)
	}
}

// failures are the steps that fail, and why.
type failures map[string]failure

type failure struct {
	text  string
	times int
}

// note records how a step went: whether it failed for the same reason before,
// and how often it has failed since it last worked.
func (t failures) note(step string, err error) (known bool, times int) {
	before := t[step]
	if err == nil {
		delete(t, step)
		return false, before.times
	}
	// Numbers differ between failures that are the same: ports, times, partitions.
	text := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, err.Error())
	t[step] = failure{text, before.times + 1}
	return text == before.text, before.times + 1
}

// passReport is what a pass has done.
type passReport struct {
	done  session.Pruned
	steps []step // in their order
	fit   bool   // whether this role may do all of it
}

type step struct {
	what string
	err  error
}

func (r passReport) err(ctx context.Context) error {
	var errs []error
	for _, step := range r.steps {
		if step.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.what, step.err))
		}
	}
	if err := wait.Ended(ctx); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
