package memstore

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Len implements session.Lister. It looks at every row.
func (s *Store) Len(ctx context.Context) (n int64, err error) {
	err = s.read(ctx, "len", func(now time.Time) error {
		n = int64(len(s.table.liveRows(now)))
		return nil
	})
	return n, err
}

// Keys implements session.Lister.
func (s *Store) Keys(ctx context.Context) iter.Seq2[session.Key, error] {
	return func(yield func(session.Key, error) bool) {
		for rec, err := range s.All(ctx) {
			if !yield(rec.Key, err) {
				return
			}
		}
	}
}

// All implements session.Lister.
func (s *Store) All(ctx context.Context) iter.Seq2[session.Record, error] {
	return func(yield func(session.Record, error) bool) {
		var rows []*row
		err := s.read(ctx, "list", func(now time.Time) error {
			rows = s.table.liveRows(now)
			return nil
		})
		if err != nil {
			yield(session.Record{}, err)
			return
		}
		for page := range slices.Chunk(rows, 100) {
			var recs []session.Record
			err := s.read(ctx, "list", func(now time.Time) error {
				for _, r := range page {
					if r.live(now) {
						recs = append(recs, r.rec)
					}
				}
				return nil
			})
			if err != nil {
				yield(session.Record{}, err)
				return
			}
			for _, rec := range recs { // without the lock
				if !yield(rec, nil) {
					return
				}
			}
		}
	}
}

// Clear implements session.Clearer.
func (s *Store) Clear(ctx context.Context) (n int64, err error) {
	err = s.write(ctx, "clear", func(now time.Time) error {
		n = s.end(now, s.table.liveRows(now)...)
		return nil
	})
	return n, err
}

func (t *table) liveRows(now time.Time) []*row {
	var rows []*row
	for _, r := range t.rows {
		if r.live(now) {
			rows = append(rows, r)
		}
	}
	return rows
}
