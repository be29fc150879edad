package pgstore

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/pglock"
	"github.com/sojourn-go/sojourn/session"
)

// StartPruning implements session.Pruner.
func (s *Store) StartPruning() { s.pruning.Start() }

// StopPruning implements session.Pruner.
func (s *Store) StopPruning(ctx context.Context) error {
	if s.closed.Load() {
		return wrap("stop pruning", session.ErrClosed)
	}
	return wrap("stop pruning", s.pruning.Stop(ctx))
}

// PruneNow implements session.Pruner.
func (s *Store) PruneNow(ctx context.Context) (session.Pruned, error) {
	if err := s.begun(ctx); err != nil {
		return session.Pruned{}, wrap("prune", err)
	}
	done, err := s.pruning.Now(ctx)
	return done, wrap("prune", err)
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
