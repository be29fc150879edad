package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/internal/worker"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/pglock"
	"github.com/sojourn-go/sojourn/session"
)

// pruning is this node's part in the maintenance of the table. One node leads
// and does a pass now and then, on the very connection that holds its lock.
type pruning struct {
	s      *Store
	worker worker.Worker

	mu       sync.Mutex
	state    leader.State
	total    session.Pruned
	limits   map[string]string // by what brings them about
	failures failures
	sweep    sweeper // of this node's passes in the background
}

func newPruning(s *Store) *pruning {
	return &pruning{s: s, limits: map[string]string{}, failures: failures{}}
}

// StartPruning implements session.Pruner.
func (s *Store) StartPruning() { s.pruning.worker.Start(s.pruning.run) }

// StopPruning implements session.Pruner.
func (s *Store) StopPruning(ctx context.Context) error {
	if s.closed.Load() {
		return wrap("stop pruning", session.ErrClosed)
	}
	return wrap("stop pruning", s.pruning.worker.Stop(ctx))
}

func (p *pruning) report(st *session.Stats) {
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

func (p *pruning) add(done session.Pruned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total.Retired += done.Retired
	p.total.Made += done.Made
	p.total.Rows += done.Rows
	p.total.Emptied += done.Emptied
}

// limit notes what this node cannot do, by its reason. An empty text says that
// it can.
func (p *pruning) limit(why, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits[why] = text
}

// Leader asks the database which node leads and returns its NodeName, as far
// as 63 bytes hold it, or leader.ErrNoLeader. Without a direct connection nodes
// take turns and nobody leads.
func (s *Store) Leader(ctx context.Context) (string, error) {
	if err := s.begun(ctx); err != nil {
		return "", wrap("leader", err)
	}
	var info pglock.Info
	err := s.app.Ask(ctx, func(ctx context.Context, conn *pgxpool.Conn) (err error) {
		info, err = pglock.Holder(ctx, conn, s.lockKey("leader"))
		return err
	})
	if err != nil {
		return "", wrap("leader", err)
	}
	name, _ := strings.CutSuffix(info.ApplicationName, " (leader)")
	name, _ = strings.CutPrefix(name, namePrefix)
	return name, nil
}

const namePrefix = "sojourn " // of application names

// lockKey is the number of an advisory lock of this table.
func (s *Store) lockKey(purpose string) int64 {
	return leader.Key("sojourn", s.opts.Schema, s.opts.Table, purpose)
}

// locker makes sessions for locks, around a pooler if there is one.
func (s *Store) locker(purpose string) (leader.Locker[*pgx.Conn], error) {
	return pglock.Around(s.pulse, s.opts.DirectDSN, s.lockKey(purpose), namePrefix+s.opts.NodeName)
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

func (p *pruning) run(ctx context.Context) {
	locker, err := p.s.locker("leader")
	if err != nil {
		p.s.backgroundError("take part in maintenance", err)
		return
	}
	err = leader.Run(ctx, pglock.Reluctant(locker, leaveToOthers, p.fit), leader.Options{
		Logger: p.s.log,
		OnChange: func(state leader.State) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.state = state
		},
	}, p.lead)
	if errors.Is(err, leader.ErrPooled) {
		p.limit("connection", withoutDetachConcurrently)
		p.s.log.Warn(withoutDetachConcurrently + "; nodes take turns in maintenance")
		p.takeTurns(ctx)
		return
	}
	if err != nil && ctx.Err() == nil {
		p.s.backgroundError("take part in maintenance", err)
	}
}

// fit reports whether a node may do all of a pass on a connection.
func (p *pruning) fit(ctx context.Context, conn *pgx.Conn) (bool, error) {
	may, _, err := p.s.mayRetire(ctx, conn)
	return may, err
}

// lead does passes for as long as this node leads.
func (p *pruning) lead(leading context.Context, term *leader.Term[*pgx.Conn]) error {
	for {
		fit := true
		err := term.Do(leading, passLimit, func(ctx context.Context, conn *pgx.Conn) error {
			fit = p.pass(ctx, hand{s: p.s, conn: conn})
			return nil
		})
		if leading.Err() != nil {
			return nil
		}
		p.note("maintain", err)
		pause := storekit.NextPrune(p.s.opts.NextPrune, storekit.PruneInterval(p.s.opts.PruneInterval))
		if !fit {
			pause = min(pause, unfitTerm)
		}
		if !wait.Sleep(leading, pause) || !fit {
			return nil
		}
	}
}

// takeTurns does passes without leading.
func (p *pruning) takeTurns(ctx context.Context) {
	for {
		limited, cancel := context.WithTimeout(ctx, passLimit)
		h, done, err := p.s.pooledHand(limited)
		if err == nil {
			p.pass(limited, h)
			done()
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		p.note("maintain", err)
		if !wait.Sleep(ctx, storekit.NextPrune(p.s.opts.NextPrune, storekit.PruneInterval(p.s.opts.PruneInterval))) {
			return
		}
	}
}

// pass runs one pass and logs what failed. It reports whether this node may do
// all of it.
func (p *pruning) pass(ctx context.Context, h hand) (fit bool) {
	r := p.s.pass(ctx, h, &p.sweep)
	p.add(r.done)
	for _, step := range r.steps {
		if ctx.Err() != nil && step.err != nil {
			continue // it was cut off, which is no news
		}
		p.note(step.what, step.err)
	}
	return r.fit
}

// PruneNow implements session.Pruner.
func (s *Store) PruneNow(ctx context.Context) (session.Pruned, error) {
	if err := s.begun(ctx); err != nil {
		return session.Pruned{}, wrap("prune", err)
	}
	h, done, err := s.ownHand(ctx)
	if errors.Is(err, leader.ErrPooled) {
		h, done, err = s.pooledHand(ctx)
	}
	if err != nil {
		return session.Pruned{}, wrap("prune", err)
	}
	defer done()
	r := s.pass(ctx, h, &sweeper{})
	s.pruning.add(r.done)
	return r.done, wrap("prune", r.err(ctx))
}

// note says of a step that it fails, once for each reason, and that it works
// again. It counts what it does not say.
func (p *pruning) note(step string, err error) {
	p.mu.Lock()
	known, times := p.failures.note(step, err)
	p.mu.Unlock()
	switch {
	case err == nil && times > 0:
		p.s.log.Info("maintenance works again", zap.String("step", step), zap.Int("failures", times))
	case err == nil:
	case known:
		p.s.stats.backgroundErrors.Add(1)
	default:
		p.s.backgroundError(step, err)
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
