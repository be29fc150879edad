package pgstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/pgstore/internal/partition"
	"github.com/sojourn-go/sojourn/session"
)

// Clear implements session.Clearer. It walks through all rows in transactions
// of up to 1,000, each of which has Options.WriteTimeout. Nobody else waits for
// longer than one of them takes.
//
// One walk is enough. No row moves, so it meets the row of each session that
// was live at the call. It ends each session that it finds live, and of each
// that was renewed since, what that has become.
func (s *Store) Clear(ctx context.Context) (int64, error) {
	if err := s.begun(ctx); err != nil {
		return 0, wrap("clear", err)
	}
	w := s.cache.BeginAll()
	defer w.End()
	total, err := s.clear(ctx)
	s.stats.destroys.Add(uint64(total))
	return total, wrap("clear", err)
}

func (s *Store) clear(ctx context.Context) (total int64, err error) {
	f, err := s.table.Refresh(ctx)
	if err != nil {
		return 0, err
	}
	for {
		began := f.Now()
		since := began.Add(-f.GraceInForce) // no write that had begun lasts longer
		parts := s.allParts(f)
		for i, part := range parts {
			ended, err := s.clearPart(ctx, part, parts[i+1:], since)
			total += ended
			if err != nil {
				return total, err
			}
		}
		if f, err = s.table.Refresh(ctx); err != nil {
			return total, err
		}
		left := s.allParts(f)
		gone := slices.ContainsFunc(parts, func(was partition.Partition) bool {
			return was.Hi > began.Unix()/3600 && !slices.ContainsFunc(left, func(part partition.Partition) bool { return part.Lo == was.Lo && part.Hi == was.Hi })
		})
		if !gone {
			return total, nil
		}
		// A partition that held live sessions is gone. What they were renewed
		// to can be anywhere.
	}
}

// allParts are all partitions in order. Some can be reached through the parent
// alone.
func (s *Store) allParts(f *partition.Facts) []partition.Partition {
	parts := slices.Clone(f.Partitions)
	for _, part := range f.Others {
		part.Texts = s.onParent
		parts = append(parts, part)
	}
	slices.SortFunc(parts, func(a, b partition.Partition) int { return cmp.Compare(a.Lo, b.Lo) })
	return parts
}

// clearPart walks through part. The walk goes on through the later ones.
func (s *Store) clearPart(ctx context.Context, part partition.Partition, later []partition.Partition, since time.Time) (total int64, err error) {
	last := session.Key{}
	for {
		var page clearedPage
		err := s.writes.UntilKnown(ctx, s.control, nil, func(ctx context.Context, r db.Road) (err error) {
			page, err = s.clearPage(ctx, r, part, last, since)
			return err
		}, nil) // doing it again does no harm
		if err != nil {
			return total, err
		}
		total += page.live
		if len(page.met) == 0 {
			return total, nil
		}
		last = slices.MaxFunc(page.met, pageOrder)
		ahead := func(key session.Key) bool { // a partition that was made since is not ahead
			return part.Takes(key.Bucket) && pageOrder(key, last) > 0 ||
				slices.ContainsFunc(later, func(part partition.Partition) bool { return part.Takes(key.Bucket) })
		}
		ended, err := s.endRenewed(ctx, page.renewed, ahead)
		total += ended
		if err != nil {
			return total, err
		}
	}
}

// clearedPage is some rows in the order of their keys.
type clearedPage struct {
	met     []session.Key
	renewed []session.Key // of these; or ended by somebody else
	live    int64         // how many it ended
}

func (s *Store) clearPage(ctx context.Context, r db.Road, part partition.Partition, after session.Key, since time.Time) (page clearedPage, err error) {
	err = s.onPartition(&part, func(q *texts) error {
		page = clearedPage{}
		ended := map[session.Key]bool{}
		b := r.NewNotifyingBatch(ctx, s.cache.Sender().All())
		b.Queue(q.clear, after.Hash[:], after.Bucket, endBatch, part.Lo, part.Hi, since).Query(func(rows pgx.Rows) error {
			var hash []byte
			var bucket int32
			var written, marked bool
			_, err := pgx.ForEachRow(rows, []any{&hash, &bucket, &written, &marked}, func() error {
				key := session.Key{Hash: [32]byte(hash), Bucket: bucket}
				if written {
					ended[key] = true
				} else {
					page.met = append(page.met, key)
				}
				switch {
				case written && marked:
					page.live++
				case marked:
					page.renewed = append(page.renewed, key)
				}
				return nil
			})
			page.renewed = slices.DeleteFunc(page.renewed, func(key session.Key) bool { return ended[key] })
			return err
		})
		return r.Send(ctx, b)
	})
	return page, err
}

// endRenewed ends what keys have become, unless the walk will meet it.
func (s *Store) endRenewed(ctx context.Context, keys []session.Key, ahead func(session.Key) bool) (total int64, err error) {
	if len(keys) == 0 {
		return 0, nil
	}
	hashes, buckets := arraysOf(keys)
	var heads []session.Key
	err = s.control.Ask(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		b := s.control.NewBatch(ctx)
		b.Queue(s.parent.heads, hashes, buckets).Query(func(rows pgx.Rows) (err error) {
			heads, err = pgx.CollectRows(rows, scanKey)
			return err
		})
		return b.CommitOn(ctx, conn)
	})
	if err != nil {
		return 0, err
	}
	return s.endHeads(ctx, slices.DeleteFunc(heads, ahead))
}
