package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// WaitForAllNodes implements session.NodeWaiter. It takes the longest lease by
// which any node may answer from its memory, two seconds unless it was changed.
func (s *Store) WaitForAllNodes(ctx context.Context) error {
	if err := s.begun(ctx); err != nil {
		return wrap("wait for all nodes", err)
	}
	return wrap("wait for all nodes", s.outwait(ctx))
}

// outwait waits for the longest lease in force. It reads the lease after the
// write was acknowledged: a node that learns of a longer one later counts that
// from then on.
func (s *Store) outwait(ctx context.Context) error {
	var lease int64
	err := s.control.QueryRow(ctx, func(row pgx.Row) error { return row.Scan(&lease) }, s.parent.longestLease)
	if err != nil {
		return err
	}
	// Clocks differ by less than a thousandth in speed.
	if longest := time.Duration(lease) * time.Millisecond; !wait.Sleep(ctx, longest+longest/1000) {
		return wait.Ended(ctx)
	}
	return nil
}

// DestroyOnAllNodes implements session.NodeWaiter.
func (s *Store) DestroyOnAllNodes(ctx context.Context, keys ...session.Key) (int64, error) {
	n, err := s.Destroy(ctx, keys...)
	if err != nil {
		return n, err
	}
	return n, wrap("destroy", s.outwait(ctx))
}
