package pgstore

import (
	"context"
	"iter"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/session"
)

// Len implements session.Lister. It reads the whole table.
func (s *Store) Len(ctx context.Context) (int64, error) {
	if err := s.begun(ctx); err != nil {
		return 0, wrap("len", err)
	}
	var n int64
	err := s.queryRow(ctx, road{conns: s.conns}, func(row pgx.Row) error { return row.Scan(&n) }, s.parent.count)
	return n, wrap("len", err)
}

// A page is read at once: nothing is held on the server between two pages.
const (
	keysPerPage     = 5000
	sessionsPerPage = 500
)

// Keys implements session.Lister.
func (s *Store) Keys(ctx context.Context) iter.Seq2[session.Key, error] {
	return func(yield func(session.Key, error) bool) {
		err := pages(ctx, s, func(q *queries) string { return q.pageKeys }, keysPerPage, scanKey,
			func(k session.Key) session.Key { return k },
			func(k session.Key) bool { return yield(k, nil) })
		if err != nil {
			yield(session.Key{}, wrap("list keys", err))
		}
	}
}

// All implements session.Lister.
func (s *Store) All(ctx context.Context) iter.Seq2[session.Record, error] {
	return func(yield func(session.Record, error) bool) {
		err := pages(ctx, s, func(q *queries) string { return q.pageAll }, sessionsPerPage, scanSession,
			func(r session.Record) session.Key { return r.Key },
			func(r session.Record) bool { return yield(r, nil) })
		if err != nil {
			yield(session.Record{}, wrap("list", err))
		}
	}
}

// pages walks through the partitions in key order, page by page, until visit
// says no. A partition that vanishes meanwhile held nothing live.
func pages[T any](ctx context.Context, s *Store, text func(*queries) string, size int, scan pgx.RowToFunc[T], keyOf func(T) session.Key, visit func(T) bool) error {
	if err := s.begun(ctx); err != nil {
		return err
	}
	f, err := s.refresh(ctx)
	if err != nil {
		return err
	}
	for _, l := range f.leaves {
		last := session.Key{}
		for {
			if err := s.begun(ctx); err != nil {
				return err
			}
			page, err := readPage(ctx, s, l, text, last, size, scan)
			if err != nil {
				return err
			}
			for _, item := range page {
				if !visit(item) {
					return nil
				}
			}
			if len(page) < size {
				break
			}
			last = keyOf(page[len(page)-1])
		}
	}
	return nil
}

func readPage[T any](ctx context.Context, s *Store, l leaf, text func(*queries) string, last session.Key, size int, scan pgx.RowToFunc[T]) (page []T, err error) {
	err = s.onLeaf(l, func(q *queries) error {
		return s.ask(ctx, s.app, func(ctx context.Context, conn *pgxpool.Conn) error {
			b := s.newBatch(ctx, s.app)
			b.Queue(text(q), last.Hash[:], last.Bucket, size, l.lo, l.hi).Query(func(rows pgx.Rows) (err error) {
				page, err = pgx.CollectRows(rows, scan)
				return err
			})
			return commit(ctx, conn, &b.Batch, false)
		})
	})
	return page, err
}

// onLeaf runs do with the statements of a leaf or, if it is gone or not ours
// to use, with those of the parent.
func (s *Store) onLeaf(l leaf, do func(*queries) error) error {
	err := do(l.q)
	if err != nil && fateOf(err) == fateLeaf {
		s.refreshSoon()
		err = do(s.onParent)
	}
	return err
}

// Clear implements session.Clearer. It ends sessions page by page. The last
// pass holds off all who create or renew sessions, so that none slips through
// by being renewed.
func (s *Store) Clear(ctx context.Context) (int64, error) {
	if err := s.begun(ctx); err != nil {
		return 0, wrap("clear", err)
	}
	f, err := s.refresh(ctx)
	if err != nil {
		return 0, wrap("clear", err)
	}
	w := s.cache.BeginAll()
	defer w.End()
	var total int64
	for _, l := range f.leaves {
		live, err := s.clearLeaf(ctx, l)
		total += live
		if err != nil {
			return total, wrap("clear", err)
		}
	}
	live, err := s.clearRest(ctx)
	total += live
	s.stats.destroys.Add(uint64(total))
	return total, wrap("clear", err)
}

func (s *Store) clearLeaf(ctx context.Context, l leaf) (total int64, err error) {
	last := session.Key{}
	for {
		var page []cleared
		err := s.settle(ctx, s.control, nil, func(ctx context.Context, r road) error {
			return s.onLeaf(l, func(q *queries) error {
				b := s.newTellingBatch(ctx, r, s.cache.Sender().All())
				b.Queue(q.clear, last.Hash[:], last.Bucket, endBatch, l.lo, l.hi).Query(func(rows pgx.Rows) (err error) {
					page, err = pgx.CollectRows(rows, scanCleared)
					return err
				})
				return send(ctx, r, b)
			})
		}, nil)
		if err != nil {
			return total, err
		}
		for _, c := range page {
			if c.live {
				total++
			}
			if pageOrder(last, c.key) < 0 {
				last = c.key
			}
		}
		if len(page) < endBatch {
			return total, nil
		}
	}
}

// clearRest is one transaction under all stripes.
func (s *Store) clearRest(ctx context.Context) (total int64, err error) {
	err = s.settle(ctx, s.control, nil, func(ctx context.Context, r road) error {
		total = 0
		b := s.newTellingBatch(ctx, r, s.cache.Sender().All())
		b.Queue(takeStripes, s.lockClass, 0, noUser)
		b.Queue(s.onParent.clear, make([]byte, 32), 0, nil, int64(math.MinInt32), int64(math.MaxInt32)+1).Query(func(rows pgx.Rows) error {
			page, err := pgx.CollectRows(rows, scanCleared)
			for _, c := range page {
				if c.live {
					total++
				}
			}
			return err
		})
		return send(ctx, r, b)
	}, nil)
	return total, err
}
