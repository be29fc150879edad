package pgstore

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
	"github.com/sojourn-go/sojourn/session"
)

// pruning is this node's part in the maintenance of the table. One node leads
// and does a pass now and then, on the very connection that holds its lock.
type pruning struct {
	s      *Store
	worker worker.Worker

	mu    sync.Mutex
	state leader.State
	total session.Pruned
	sweep sweeper // of the leader's passes
}

func newPruning(s *Store) *pruning { return &pruning{s: s} }

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
}

func (p *pruning) add(done session.Pruned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total.Retired += done.Retired
	p.total.Made += done.Made
	p.total.Rows += done.Rows
	p.total.Emptied += done.Emptied
}

// Leader asks the database which node leads and returns its NodeName, as far
// as 63 bytes hold it, or leader.ErrNoLeader. Without a direct connection nodes
// take turns and nobody leads.
func (s *Store) Leader(ctx context.Context) (string, error) {
	if err := s.begun(ctx); err != nil {
		return "", wrap("leader", err)
	}
	info, err := leader.Holder(ctx, s.pool, s.lockKey("leader"))
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

// locker is for a connection around any pooler.
func (s *Store) locker(purpose string) leader.Locker[*pgx.Conn] {
	key, name := s.lockKey(purpose), namePrefix+s.opts.NodeName
	if s.opts.DirectDSN != "" {
		return leader.Postgres(s.direct, key, name)
	}
	return leader.PostgresFromPool(s.pool, key, name)
}

func (p *pruning) run(ctx context.Context) {
	s := p.s
	err := leader.Run(ctx, s.locker("leader"), leader.Options{
		Logger: s.log,
		OnChange: func(state leader.State) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.state = state
		},
	}, func(leading context.Context, term *leader.Term[*pgx.Conn]) error {
		for {
			err := term.Do(leading, passLimit, func(ctx context.Context, conn *pgx.Conn) error {
				return s.leaderPass(ctx, conn)
			})
			if leading.Err() != nil {
				return nil
			}
			if err != nil {
				s.backgroundError("maintain", err)
			}
			if !wait.Sleep(leading, s.opts.nextPrune()) {
				return nil
			}
		}
	})
	if errors.Is(err, leader.ErrPooled) {
		s.log.Warn("the pool goes through a pooler and Options.DirectDSN is empty: " +
			"maintenance takes turns by transaction locks, and retiring a partition locks the table for a moment")
		err = p.runPooled(ctx)
	}
	if err != nil && ctx.Err() == nil {
		s.backgroundError("take part in maintenance", err)
	}
}

// passLimit is how long a pass may take. It bounds how long a dead connection
// may go unnoticed while a statement runs.
const passLimit = 10 * time.Minute

func (s *Store) leaderPass(ctx context.Context, conn *pgx.Conn) error {
	done, err := s.pass(ctx, conn, &s.pruning.sweep)
	s.pruning.add(done)
	return err
}

// PruneNow implements session.Pruner.
func (s *Store) PruneNow(ctx context.Context) (session.Pruned, error) {
	if err := s.begun(ctx); err != nil {
		return session.Pruned{}, wrap("prune", err)
	}
	sess, err := s.locker("prune").Open(ctx)
	if errors.Is(err, leader.ErrPooled) {
		done, err := s.pooledPass(ctx)
		s.pruning.add(done)
		return done, wrap("prune", err)
	}
	if err != nil {
		return session.Pruned{}, wrap("prune", err)
	}
	defer func() {
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := sess.Close(bye); err != nil {
			s.backgroundError("close the connection of PruneNow", err)
		}
	}()
	done, err := s.pass(ctx, sess.Conn(), &sweeper{})
	s.pruning.add(done)
	return done, wrap("prune", err)
}

// pass does what there is to do, one after the other, and goes on after a
// failure: what could not be done now is tried by the next pass.
func (s *Store) pass(ctx context.Context, conn *pgx.Conn, sweep *sweeper) (session.Pruned, error) {
	m := &maintenance{s: s, conn: conn}
	var done session.Pruned
	if err := m.lock(ctx); err != nil {
		return done, err
	}
	defer m.unlock(ctx)
	var errs []error
	step := func(what string, do func(context.Context) error) {
		if ctx.Err() != nil {
			return
		}
		if err := do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	step("finish interrupted detaching", m.finalize)
	step("take care of detached partitions", func(ctx context.Context) error { return m.adopt(ctx, &done) })
	step("make partitions ahead", func(ctx context.Context) error { return m.makeAhead(ctx, &done) })
	step("pass on grants", m.syncGrants)
	step("retire partitions", func(ctx context.Context) error { return m.retire(ctx, &done) })
	if done.Made > 0 || done.Retired > 0 {
		step("tell the other nodes", m.tellPartitions)
	}
	step("thin out partitions", func(ctx context.Context) error { return m.sweep(ctx, sweep, &done) })
	if len(errs) == 0 {
		step("note the pass", m.journal)
	}
	if ctx.Err() != nil {
		errs = append(errs, wait.Ended(ctx))
	}
	s.refreshSoon()
	if done != (session.Pruned{}) {
		s.log.Info("maintenance", zap.Int("retired", done.Retired), zap.Int("made", done.Made), zap.Int64("rows", done.Rows), zap.Int64("emptied", done.Emptied))
	}
	return done, errors.Join(errs...)
}
