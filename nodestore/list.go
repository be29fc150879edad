package nodestore

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Len counts the live sessions, of this layout's prefix, those included whose
// document cannot be decoded. It reads the whole table.
func (s *Store) Len(ctx context.Context) (n int64, err error) {
	start := time.Now()
	if err = s.begun(ctx); err == nil {
		err = s.query(ctx, s.q.count, s.mineNow(), func() {}, func(rows *sql.Rows) error { return rows.Scan(&n) })
	}
	return n, s.done("len", start, err)
}

func (s *Store) mineNow() values {
	return values{"now": s.bindNow(s.clock()), "prefix": s.layout.IDPrefix}
}

// mine reports whether a row is this layout's.
func (s *Store) mine(key string) bool { return strings.HasPrefix(key, s.layout.IDPrefix) }

// A page is read at once: nothing is held between two pages.
const (
	idsPerPage     = 5000
	entriesPerPage = 100
)

// IDs lists the live sessions, of this layout's prefix, in the order that the
// column has. An error ends the listing. Sessions that are created meanwhile
// may be missing.
func (s *Store) IDs(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		start := time.Now()
		err := pages(ctx, s, s.q.pageIDs, idsPerPage, scanID, func(key string, _ struct{}) bool {
			return yield(strings.TrimPrefix(key, s.layout.IDPrefix), nil)
		})
		if err = s.done("list IDs", start, err); err != nil {
			yield("", err)
		}
	}
}

// All is like IDs with the whole session. A session whose document is no JSON
// object comes with session.ErrUndecodable, after which the listing goes on.
func (s *Store) All(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		start := time.Now()
		err := pages(ctx, s, s.q.page, entriesPerPage, s.scan, func(_ string, e Entry) bool {
			err := readable(e.Data)
			if errors.Is(err, session.ErrNotFound) {
				return true
			}
			return yield(e, wrap("list", err))
		})
		if err = s.done("list", start, err); err != nil {
			yield(Entry{}, err)
		}
	}
}

func scanID(rows *sql.Rows) (key string, _ struct{}, err error) {
	err = rows.Scan(&key)
	return key, struct{}{}, err
}

// pages walks along the keys, until visit says no.
func pages[T any](ctx context.Context, s *Store, q pageQuery, size int, read func(*sql.Rows) (string, T, error), visit func(key string, item T) bool) error {
	type row struct {
		key  string
		item T
	}
	from, after, page := q.first, "", []row(nil)
	for {
		if err := s.begun(ctx); err != nil {
			return err
		}
		v := s.mineNow()
		v["after"], v["limit"] = after, int64(size)
		err := s.query(ctx, from, v, func() { page = page[:0] }, func(rows *sql.Rows) error {
			key, item, err := read(rows)
			page = append(page, row{key, item})
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range page {
			after = r.key
			if s.mine(r.key) && !visit(r.key, r.item) {
				return nil
			}
		}
		if len(page) < size {
			return nil
		}
		from = q.next
	}
}
