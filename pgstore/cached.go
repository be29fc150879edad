package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// s.cache has what this node knows of sessions, and answers only while it can
// prove that this is current. Every write is an invalidation.Write from before
// it is sent until its outcome is known or given up, and notifies the other
// nodes.

// getCached returns the live session of key, whose bucket is known, or of its
// successor while every renewal on the way is in its grace period.
func (s *Store) getCached(ctx context.Context, key session.Key) (session.Record, error) {
	for asked := key; ; {
		row, ok := s.cache.Get(key)
		if !ok {
			var err error
			if row, err = s.cache.Load(ctx, key, s.loadForCache); err != nil {
				return session.Record{}, ofAsked(err, key == asked)
			}
		}
		if row.Next.IsZero() {
			return row.Record, nil
		}
		key = row.Next
	}
}

// loadForCache is a read on behalf of all callers that ask for key at the time.
func (s *Store) loadForCache(ctx context.Context, key session.Key, server time.Time) (invalidation.Row, error) {
	leave, err := s.enterFill(ctx)
	if err != nil {
		return invalidation.Row{}, err
	}
	defer leave()
	return s.selectRow(ctx, key, server)
}

// enterFill waits for a place among the reads that fill the cache. There are
// fewer of them than connections: a cache that is empty must not keep the
// application from its own.
func (s *Store) enterFill(ctx context.Context) (leave func(), err error) {
	select {
	case s.fills <- struct{}{}:
		return func() { <-s.fills }, nil
	case <-ctx.Done():
		return nil, wait.Ended(ctx)
	}
}

// GetFresh implements session.FreshGetter.
func (s *Store) GetFresh(ctx context.Context, key session.Key) (session.Record, error) {
	if err := s.begun(ctx); err != nil {
		return session.Record{}, wrap("get", err)
	}
	s.stats.gets.add(key)
	ctx, cancel := s.conns.WithinRead(ctx)
	defer cancel()
	at, err := s.locate(ctx, s.app, key)
	if err != nil {
		return session.Record{}, wrap("get", err)
	}
	rec, err := s.getFromDatabase(ctx, at)
	return renamed(rec, at, key), wrap("get", err)
}

// GetVersion implements session.VersionGetter.
func (s *Store) GetVersion(ctx context.Context, key session.Key, version int64) (session.Record, error) {
	rec, err := s.Get(ctx, key)
	if err != nil || rec.Version >= version {
		return rec, err
	}
	leave, err := s.enterFill(ctx)
	if err != nil {
		return session.Record{}, wrap("get", err)
	}
	defer leave()
	// Meanwhile another request of the browser may have read it.
	if rec, ok := s.cache.Session(key); ok && rec.Version >= version {
		return rec, nil
	}
	return s.GetFresh(ctx, key)
}

// Lag implements session.VersionGetter: it is the longest lease in force.
func (s *Store) Lag() time.Duration {
	longest := s.table.Known.Load().LongestLease
	return longest + longest/1000 // clocks differ by less than that in speed
}

// getFromDatabase is getCached past the memory, from the database.
func (s *Store) getFromDatabase(ctx context.Context, key session.Key) (session.Record, error) {
	for asked := key; ; {
		t := s.cache.Reserve(key)
		row, err := s.selectRow(ctx, key, t.Server())
		if err != nil {
			return session.Record{}, ofAsked(err, key == asked)
		}
		s.cache.Fill(t, row)
		if row.Next.IsZero() {
			return row.Record, nil
		}
		key = row.Next
	}
}

// ofAsked is the error of a read for the caller who asked. A session that led on was
// renewed, whatever became of its successor.
func ofAsked(err error, asked bool) error {
	if !asked && isNotFound(err) {
		return session.NotFound(session.FateRenewed)
	}
	return err
}

// renamed returns rec under the key by which the caller knows it, unless rec is
// a successor.
func renamed(rec session.Record, at, key session.Key) session.Record {
	if rec.Key == at {
		rec.Key = key
	}
	return rec
}

// written is the row that a write has left. It has a life only if the given
// server wrote it, the one that is listened to. ran is a time before the write.
func written(server time.Time, rec session.Record, ran db.ServerTime) invalidation.Row {
	row := invalidation.Row{Record: rec}
	if !server.IsZero() && ran.Server.Equal(server) {
		row.Life = rec.Expires.Sub(ran.Clock)
	}
	return row
}

// nullServer is NULL while no server is listened to.
func nullServer(started time.Time) zeronull.Timestamptz { return zeronull.Timestamptz(started) }
