package batch

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// Writer writes for all callers of a store.
type Writer struct {
	Creates, Saves, Touches, Destroys *Lane

	Flushes atomic.Uint64 // batches that were committed
	Unknown atomic.Uint64 // writes whose outcome is not known

	opts    Options
	parent  *Texts
	lookOld string
	turns   turns
	silent  atomic.Int64 // when silent transactions were last ended, in nanoseconds
	running sync.WaitGroup
}

// Options say what a Writer needs to know.
type Options struct {
	App, Control db.Road       // of most writes; and of those that must work whatever the application does
	Items, Bytes int           // of a batch, at most
	WriteTimeout time.Duration // see pgstore.Options
	Parent       string        // the sessions table, quoted and qualified
	LockClass    int32         // of the locks on stripes

	// Find returns the statements of the partition that takes bucket, and the
	// first bucket that it does not take; nil if none is known.
	Find func(bucket int32) (texts *Texts, end int64)
	// Stale is called when a partition is not where Find says.
	Stale func()
	// Now is the database's time as far as this node knows, Longest the longest
	// lifetime. Compare is told a time that the database has shown, and what Now was
	// before.
	Now     func() time.Time
	Longest func() time.Duration
	Compare func(before, told time.Time)
	// Payloads are what other nodes are sent about keys that are written. They may
	// change after Disown.
	Payloads func(keys ...session.Key) []string
	// Disown is called when a write may have been committed that was not answered.
	Disown func()
	Log    *zap.Logger
}

// New returns a Writer that waits for writes. Close ends it.
func New(opts Options) *Writer {
	w := &Writer{opts: opts, parent: NewTexts(opts.Parent), lookOld: LookOld(opts.Parent)}
	w.Creates = w.newLane("create", w.flushCreates, opts.App)
	w.Saves = w.newLane("save", w.flushSaves, opts.App)
	w.Touches = w.newLane("touch", w.flushTouches, opts.App)
	w.Destroys = w.newLane("destroy", w.flushDestroys, opts.Control)
	for _, l := range w.Lanes() {
		w.running.Go(func() { l.run(opts.App.Cut) })
	}
	return w
}

// Lanes are all of them.
func (w *Writer) Lanes() []*Lane { return []*Lane{w.Creates, w.Saves, w.Touches, w.Destroys} }

// Close has the lanes refuse writes, and waits until those are written that they
// have accepted.
func (w *Writer) Close() {
	for _, l := range w.Lanes() {
		l.Close()
	}
	w.running.Wait()
}

// outcomeOpen is the error of a write whose answer was lost, and of which
// asking again, which ended with err, did not tell the outcome.
func (w *Writer) outcomeOpen(ctx context.Context, lost, err error) error {
	w.Unknown.Add(1)
	if db.IsRefusal(err) {
		err = nil
	}
	return storekit.StillUnknown(ctx, lost, err)
}

// Created reports whether rec was created at that key, and completes it. The
// version tells, whatever came after the creation. The error is ErrUnknown if
// there is a later version, which may have come after it.
func (w *Writer) Created(ctx context.Context, at session.Key, rec *session.Record) (bool, error) {
	was, err := w.Look(ctx, at)
	switch {
	case err != nil:
		return false, err
	case was.Version > rec.Version:
		return false, session.ErrUnknown
	case was.Version < rec.Version: // also where there is none
		return false, nil
	}
	rec.Created = was.Created
	return true, nil
}

// Look reads the row of key without locking it.
func (w *Writer) Look(ctx context.Context, key session.Key) (was State, err error) {
	err = w.opts.App.QueryRow(ctx, func(row pgx.Row) error {
		was, err = ScanState(row)
		return err
	}, w.lookOld, key.Hash[:], key.Bucket)
	return was, err
}

// State is a row as a statement reports it.
type State struct {
	Version                    int64
	User                       string
	Expires, Deadline, Created time.Time
	Live, InGrace              bool
	Next                       session.Key // the successor; zero if it was not renewed
}

// ScanState reads a row of LookOld, which has no user and no end. A row that is
// gone is dead.
func ScanState(row pgx.Row) (State, error) {
	var was State
	var next []byte
	var nextBucket zeronull.Int4
	err := row.Scan(&was.Version, &was.Created, &was.Live, &next, &nextBucket, &was.InGrace)
	if errors.Is(err, pgx.ErrNoRows) {
		return State{}, nil
	}
	was.Next, was.Created = db.Successor(next, nextBucket), was.Created.UTC()
	return was, err
}

const (
	userStripes = 256
	noUser      = userStripes // the stripe of sessions without a user
)

// StripeOf is the lock that stands for a user.
func StripeOf(user string) int32 {
	if user == "" {
		return noUser
	}
	sum := sha256.Sum256([]byte(user))
	return int32(sum[0])
}
