package pgstore

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/pgstore/internal/db"
)

// Servers before 17 have no limit for a transaction whose client has sent a
// part of a batch and then falls silent, because its process is frozen for
// instance. So a write that waits for a lock ends transactions that hold some.

const (
	askForSilentEvery = time.Second
	askForSilentIn    = 2 * time.Second
)

// silent is what ends the transactions of clients that have fallen silent.
type silent struct{ asked atomic.Int64 } // when, in nanoseconds

// endSilent does nothing if it was called a moment ago. Its own failure is no
// error: the write that waits for the lock reports that.
func (s *Store) endSilent(ctx context.Context, r db.Road) {
	now, last := time.Now().UnixNano(), s.silent.asked.Load()
	if now-last < int64(askForSilentEvery) || !s.silent.asked.CompareAndSwap(last, now) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askForSilentIn)
	defer cancel()
	ended := 0
	err := r.Query(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			ended++
		}
		return rows.Err()
	}, endSilent, s.names.Sessions, s.lockClass)
	if err == nil && ended > 0 {
		s.log.Warn("ended transactions that held locks on sessions while nothing was heard of their clients", zap.Int("transactions", ended))
	}
}
