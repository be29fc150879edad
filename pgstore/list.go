package pgstore

import (
	"context"
	"iter"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/pgstore/internal/partition"
	"github.com/sojourn-go/sojourn/session"
)

// Len implements session.Lister. It reads the whole table.
func (s *Store) Len(ctx context.Context) (int64, error) {
	if err := s.begun(ctx); err != nil {
		return 0, wrap("len", err)
	}
	var n int64
	err := s.conns.Unbounded().QueryRow(ctx, func(row pgx.Row) error { return row.Scan(&n) }, s.parent.count)
	return n, wrap("len", err)
}

// A page is read as a whole: nothing is held on the server between two pages.
const (
	keysPerPage     = 5000
	sessionsPerPage = 500
)

// Keys implements session.Lister.
func (s *Store) Keys(ctx context.Context) iter.Seq2[session.Key, error] {
	return func(yield func(session.Key, error) bool) {
		err := pages(ctx, s, func(q *texts) string { return q.pageKeys }, keysPerPage, scanKey,
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
		err := pages(ctx, s, func(q *texts) string { return q.pageAll }, sessionsPerPage, scanSession,
			func(r session.Record) session.Key { return r.Key },
			func(r session.Record) bool { return yield(r, nil) })
		if err != nil {
			yield(session.Record{}, wrap("list", err))
		}
	}
}

// pages walks through the partitions in key order, page by page, until visit
// says no. A partition that vanishes meanwhile held no live session.
func pages[T any](ctx context.Context, s *Store, text func(*texts) string, size int, scan pgx.RowToFunc[T], keyOf func(T) session.Key, visit func(T) bool) error {
	if err := s.begun(ctx); err != nil {
		return err
	}
	f, err := s.table.Refresh(ctx)
	if err != nil {
		return err
	}
	for i := range f.Partitions {
		part := &f.Partitions[i]
		last := session.Key{}
		for {
			if err := s.begun(ctx); err != nil {
				return err
			}
			page, err := readPage(ctx, s, part, text, last, size, scan)
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

func readPage[T any](ctx context.Context, s *Store, part *partition.Partition, text func(*texts) string, last session.Key, size int, scan pgx.RowToFunc[T]) (page []T, err error) {
	err = s.onPartition(part, func(q *texts) error {
		return s.app.Ask(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
			b := s.app.NewBatch(ctx)
			b.Queue(text(q), last.Hash[:], last.Bucket, size, part.Lo, part.Hi).Query(func(rows pgx.Rows) (err error) {
				page, err = pgx.CollectRows(rows, scan)
				return err
			})
			return b.CommitOn(ctx, conn)
		})
	})
	return page, err
}

// onPartition runs do with the statements of a partition. If there is none, or it
// is gone or not ours to use, it runs do with those of the parent, whose word
// counts.
func (s *Store) onPartition(part *partition.Partition, do func(*texts) error) error {
	if part == nil {
		return do(s.onParent)
	}
	err := do(textsOf(part))
	if err != nil && db.OutcomeOf(err) == db.TxPartition {
		s.table.RefreshSoon()
		err = do(s.onParent)
	}
	return err
}

// textsOf returns what New has had kept with the partition.
func textsOf(part *partition.Partition) *texts { return part.Texts.(*texts) }
