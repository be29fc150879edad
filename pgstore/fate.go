package pgstore

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// MaxData implements session.DataLimiter.
func (s *Store) MaxData() int { return s.opts.MaxData }

// Fate implements session.Explainer. It takes its turn with the reads of Get:
// anyone can have it asked, by sending IDs that do not exist.
func (s *Store) Fate(ctx context.Context, key session.Key) (session.Fate, error) {
	if err := s.begun(ctx); err != nil {
		return session.FateUnknown, wrap("fate", err)
	}
	s.stats.gets.add(key)
	ctx, cancel := s.conns.WithinRead(ctx)
	defer cancel()
	at, err := s.locate(ctx, s.app, key)
	if isNotFound(err) {
		return session.FateUnknown, nil
	}
	if err != nil {
		return session.FateUnknown, wrap("fate", err)
	}
	select {
	case s.fills <- struct{}{}:
	case <-ctx.Done():
		return session.FateUnknown, wrap("fate", wait.Ended(ctx))
	}
	defer func() { <-s.fills }()
	fate, err := s.askFate(ctx, at)
	return fate, wrap("fate", err)
}

func (s *Store) askFate(ctx context.Context, at session.Key) (session.Fate, error) {
	var live, renewed, ended bool
	ask := func(q *texts) error {
		return s.app.QueryRow(ctx, func(row pgx.Row) error { return row.Scan(&live, &renewed, &ended) }, q.fate, at.Hash[:], at.Bucket)
	}
	err := s.onPartition(s.table.Find(at.Bucket), ask)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return session.FateUnknown, nil
	case err != nil:
		return session.FateUnknown, err
	case live:
		return session.FateLive, nil
	case renewed:
		return session.FateRenewed, nil
	case ended:
		return session.FateEnded, nil
	}
	return session.FateExpired, nil
}
