package pgstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// Get implements session.Store.
func (s *Store) Get(ctx context.Context, key session.Key) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, wrap("get", err)
	}
	s.stats.gets.add(key)
	if rec, ok := s.cache.Session(key); ok {
		return rec, nil
	}
	ctx, cancel := s.conns.WithinRead(ctx)
	defer cancel()
	at, err := s.locate(ctx, s.app, key)
	if err != nil {
		return session.Record{}, wrap("get", err)
	}
	rec, err := s.getCached(ctx, at)
	return renamed(rec, at, key), wrap("get", err)
}

// foundRow is a row of the get statement. It is one allocation for all.
type foundRow struct {
	row        invalidation.Row
	user       utf8Text
	next       []byte
	nextBucket zeronull.Int4
	clock      zeronull.Timestamptz
	serves     bool // else it is dead
	ended      bool // by a call
}

// fate is what became of a session that is dead.
func (f *foundRow) fate() session.Fate {
	switch {
	case f.next != nil:
		return session.FateRenewed
	case f.ended:
		return session.FateEnded
	}
	return session.FateExpired
}

// selectRow reads one row. The row has a life if it comes from the given server.
func (s *Store) selectRow(ctx context.Context, key session.Key, server time.Time) (invalidation.Row, error) {
	found := &foundRow{row: invalidation.Row{Record: session.Record{Key: key}}}
	err := s.onPartition(s.table.Find(key.Bucket), func(q *texts) error { return found.ask(ctx, s, q, server) })
	none := errors.Is(err, pgx.ErrNoRows)
	switch {
	case none || err == nil && !found.serves:
		s.cache.Invalidate(key) // GetFresh may know it before the message comes in
		if none {
			return invalidation.Row{}, session.ErrNotFound
		}
		return invalidation.Row{}, session.NotFound(found.fate())
	case err != nil:
		return invalidation.Row{}, err
	}
	row := found.row
	rec := &row.Record
	rec.User = string(found.user)
	rec.Expires, rec.Deadline, rec.Created = rec.Expires.UTC(), rec.Deadline.UTC(), rec.Created.UTC()
	row.Next = db.Successor(found.next, found.nextBucket)
	switch clock := time.Time(found.clock); {
	case !clock.IsZero():
		row.Life = rec.Expires.Sub(clock) // of the grace, where it was renewed
	case !server.IsZero():
		s.stats.refusedByServer.Add(1)
	}
	return row, nil
}

func (f *foundRow) ask(ctx context.Context, s *Store, q *texts, server time.Time) error {
	rec := &f.row.Record
	scan := func(row pgx.Row) error {
		return row.Scan(&rec.Version, &rec.Expires, &rec.Deadline, &rec.Created, &f.user, &rec.Data, &f.next, &f.nextBucket, &f.clock, &f.serves, &f.ended)
	}
	if s.conns.Text {
		return s.app.QueryRow(ctx, scan, q.get, rec.Key.Hash[:], rec.Key.Bucket, nullServer(server))
	}
	return s.app.Ask(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return scan(conn.QueryRow(ctx, q.get, rec.Key.Hash[:], rec.Key.Bucket, nullServer(server)))
	})
}

// utf8Text is a text that comes in UTF-8 whatever the encoding of the
// connection, empty for NULL.
type utf8Text string

// ScanBytes implements pgtype.BytesScanner.
func (t *utf8Text) ScanBytes(b []byte) error {
	*t = utf8Text(b)
	return nil
}

// locateToWrite is locate for writes, for which the zero key is a mistake.
func (s *Store) locateToWrite(ctx context.Context, r db.Road, key session.Key) (session.Key, error) {
	if key.IsZero() {
		return session.Key{}, storekit.Invalid("the key is zero")
	}
	return s.locate(ctx, r, key)
}

// locate returns key with the bucket that its row is in. The error is
// ErrNotFound if there can be no session of key.
func (s *Store) locate(ctx context.Context, r db.Road, key session.Key) (session.Key, error) {
	if key.Hash == [sha256.Size]byte{} {
		return session.Key{}, session.ErrNotFound
	}
	if key.Bucket != 0 {
		return key, s.table.Reach(ctx, key.Bucket)
	}
	// Once the hour of a hint has passed, the row may be gone and the key in
	// use again.
	f := s.table.Known.Load()
	if bucket, ok := s.hints.GetIfPresent(key.Hash); ok && f.Find(bucket) != nil && bucket >= session.BucketOf(f.Now()) {
		return session.Key{Hash: key.Hash, Bucket: bucket}, nil
	}
	return s.probe(ctx, r, key)
}

func (s *Store) probe(ctx context.Context, r db.Road, key session.Key) (session.Key, error) {
	if !r.Control { // our own is small enough
		select {
		case s.probes <- struct{}{}:
		case <-ctx.Done():
			return session.Key{}, wait.Ended(ctx)
		}
		defer func() { <-s.probes }()
	}
	s.stats.probes.Add(1)
	at := session.Key{Hash: key.Hash}
	err := r.QueryRow(ctx, func(row pgx.Row) error { return row.Scan(&at.Bucket) }, s.parent.probe, key.Hash[:])
	if errors.Is(err, pgx.ErrNoRows) {
		return session.Key{}, session.ErrNotFound
	}
	if err != nil {
		return session.Key{}, fmt.Errorf("search for the key: %w", err)
	}
	s.hints.Set(key.Hash, at.Bucket)
	return at, nil
}

func isNotFound(err error) bool { return errors.Is(err, session.ErrNotFound) }

// Now implements session.Clock: the database's time as last read, counted on
// by this node's monotonic clock.
func (s *Store) Now() time.Time { return s.table.Known.Load().Now() }

// Longest implements session.Clock.
func (s *Store) Longest() time.Duration { return s.table.Known.Load().Longest }
