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

	"github.com/sojourn-go/sojourn/session"
)

// Get implements session.Store.
func (s *Store) Get(ctx context.Context, key session.Key) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, wrap("get", err)
	}
	s.stats.gets.Add(1)
	at, err := s.locate(ctx, s.pool, key)
	if err != nil {
		return session.Record{}, wrap("get", err)
	}
	rec, err := s.read(ctx, at)
	if err != nil {
		return session.Record{}, wrap("get", err)
	}
	if rec.Key == at {
		rec.Key = key
	}
	return rec, nil
}

// read returns the live session of key, whose bucket is known, or of its
// successor while every renewal on the way is in its grace period.
func (s *Store) read(ctx context.Context, key session.Key) (session.Record, error) {
	for {
		rec, next, err := s.readRow(ctx, key)
		if err != nil || next.IsZero() {
			return rec, err
		}
		key = next
	}
}

// foundRow is a row of the get statement. It is one allocation for all.
type foundRow struct {
	rec        session.Record
	user       zeronull.Text
	next       []byte
	nextBucket zeronull.Int4
}

func (s *Store) readRow(ctx context.Context, key session.Key) (session.Record, session.Key, error) {
	found := &foundRow{rec: session.Record{Key: key}}
	var err error
	if l := s.facts.Load().find(key.Bucket); l != nil {
		if err = found.ask(ctx, s.pool, l.q); err != nil && fateOf(err) == fateLeaf {
			s.refreshSoon()
			err = found.ask(ctx, s.pool, s.onParent) // only its word counts: a leaf may be gone or not ours to use
		}
	} else {
		err = found.ask(ctx, s.pool, s.onParent)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return session.Record{}, session.Key{}, session.ErrNotFound
	}
	if err != nil {
		return session.Record{}, session.Key{}, err
	}
	rec := found.rec
	rec.User = string(found.user)
	rec.Expires, rec.Deadline, rec.Created = rec.Expires.UTC(), rec.Deadline.UTC(), rec.Created.UTC()
	return rec, successor(found.next, found.nextBucket), nil
}

func (f *foundRow) ask(ctx context.Context, pool *pgxpool.Pool, q *queries) error {
	return pool.QueryRow(ctx, q.get, f.rec.Key.Hash[:], f.rec.Key.Bucket).
		Scan(&f.rec.Version, &f.rec.Expires, &f.rec.Deadline, &f.rec.Created, &f.user, &f.rec.Data, &f.next, &f.nextBucket)
}

// locateToWrite is locate for writes, for which the zero key is a mistake.
func (s *Store) locateToWrite(ctx context.Context, pool *pgxpool.Pool, key session.Key) (session.Key, error) {
	if key.IsZero() {
		return session.Key{}, invalid("the key is zero")
	}
	return s.locate(ctx, pool, key)
}

// locate returns key with the bucket that its row is in. It is ErrNotFound,
// without asking the database, when no session can be there.
func (s *Store) locate(ctx context.Context, pool *pgxpool.Pool, key session.Key) (session.Key, error) {
	if key.Hash == [sha256.Size]byte{} {
		return session.Key{}, session.ErrNotFound
	}
	if key.Bucket != 0 {
		if !s.window().Contains(key.Bucket) {
			return session.Key{}, session.ErrNotFound
		}
		return key, nil
	}
	if bucket, ok := s.hints.GetIfPresent(key.Hash); ok {
		at := session.Key{Hash: key.Hash, Bucket: bucket}
		if s.window().Contains(bucket) {
			return at, nil
		}
	}
	return s.probe(ctx, pool, key)
}

func (s *Store) probe(ctx context.Context, pool *pgxpool.Pool, key session.Key) (session.Key, error) {
	if pool == s.pool { // our own is small enough
		select {
		case s.probes <- struct{}{}:
		case <-ctx.Done():
			return session.Key{}, ended(ctx)
		}
		defer func() { <-s.probes }()
	}
	s.stats.probes.Add(1)
	oldest := session.BucketOf(s.Now().Add(-s.retireGrace(s.facts.Load())))
	at := session.Key{Hash: key.Hash}
	err := pool.QueryRow(ctx, s.parent.probe, key.Hash[:], oldest).Scan(&at.Bucket)
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
func (s *Store) Now() time.Time { return s.facts.Load().now() }

// Window implements session.Clock.
func (s *Store) Window() session.Window {
	f := s.facts.Load()
	return session.Window{Now: f.now(), Grace: s.retireGrace(f), Longest: f.longest}
}

// window is what this node asks the database about: wider by what the clocks
// of two nodes may differ.
func (s *Store) window() session.Window {
	w := s.Window()
	w.Grace += clockSlack
	w.Longest += clockSlack
	return w
}
