package batch

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

// Servers before 17 have no limit for a transaction whose client has sent a
// part of a batch and then falls silent, because its process is frozen for
// instance. So a write that waits for a lock ends transactions that hold some.

const (
	askForSilentEvery = time.Second
	askForSilentIn    = 2 * time.Second
)

// endSilent does nothing if it was called a moment ago. Its own failure is no
// error: the write that waits for the lock reports that.
func (w *Writer) endSilent(ctx context.Context) {
	now, last := time.Now().UnixNano(), w.silent.Load()
	if now-last < int64(askForSilentEvery) || !w.silent.CompareAndSwap(last, now) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askForSilentIn)
	defer cancel()
	ended := 0
	err := w.opts.Control.Query(ctx, func(rows pgx.Rows) error {
		for rows.Next() {
			ended++
		}
		return rows.Err()
	}, endSilent, w.opts.Parent, w.opts.LockClass)
	if err == nil && ended > 0 {
		w.opts.Log.Warn("ended transactions that held locks on sessions while nothing was heard of their clients", zap.Int("transactions", ended))
	}
}
