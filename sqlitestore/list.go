package sqlitestore

import (
	"context"
	"database/sql/driver"
	"iter"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Len implements session.Lister. It reads the whole table.
func (s *Store) Len(ctx context.Context) (int64, error) {
	n, err := s.number(ctx, count, storekit.Micros(s.Now()))
	return n, wrap("len", err)
}

// A page is read at once: nothing is held between two pages.
const (
	keysPerPage     = 5000
	sessionsPerPage = 500
)

// Keys implements session.Lister.
func (s *Store) Keys(ctx context.Context) iter.Seq2[session.Key, error] {
	return func(yield func(session.Key, error) bool) {
		err := pages(ctx, s, pageKeys, keysPerPage, func(v []driver.Value) (int64, session.Key, error) {
			scan := scanner(v)
			id := scan.Number()
			key := session.Key{Hash: [32]byte(scan.Hash())}
			key.Bucket = int32(scan.Number())
			return id, key, scan.Err
		}, func(k session.Key) bool { return yield(k, nil) })
		if err != nil {
			yield(session.Key{}, wrap("list keys", err))
		}
	}
}

// All implements session.Lister.
func (s *Store) All(ctx context.Context) iter.Seq2[session.Record, error] {
	return func(yield func(session.Record, error) bool) {
		err := pages(ctx, s, page, sessionsPerPage, func(v []driver.Value) (int64, session.Record, error) {
			r, err := rowOf(v, s.Now())
			return r.ID, r.Rec, err
		}, func(rec session.Record) bool { return yield(rec, nil) })
		if err != nil {
			yield(session.Record{}, wrap("list", err))
		}
	}
}

// pages walks along the ids, which only grow, until visit says no.
func pages[T any](ctx context.Context, s *Store, q query, size int, read func([]driver.Value) (int64, T, error), visit func(T) bool) error {
	last, page := int64(0), []T(nil)
	for {
		from := last
		err := s.scan(ctx, func(c *conn) error {
			page = page[:0]
			return c.query(ctx, q, func(v []driver.Value) error {
				id, item, err := read(v)
				page, last = append(page, item), id
				return err
			}, from, storekit.Micros(s.Now()), int64(size))
		})
		if err != nil {
			return err
		}
		for _, item := range page {
			if !visit(item) {
				return nil
			}
		}
		if len(page) < size {
			return nil
		}
	}
}

// Clear implements session.Clearer. It ends sessions in transactions of up to 500
// rows, so that other writes get in between; all together may take as long as ctx
// lasts.
func (s *Store) Clear(ctx context.Context) (int64, error) {
	n, err := bulk{page: pageToEnd}.run(ctx, s)
	s.stats.destroys.Add(uint64(n))
	return n, wrap("clear", err)
}
