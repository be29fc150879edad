package pgstore

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// Destroy implements session.Store. It uses a connection of the store's own,
// so that a logout does not queue behind the application's queries. After a
// lost answer the count may leave out sessions that the first attempt ended.
func (s *Store) Destroy(ctx context.Context, keys ...session.Key) (int64, error) {
	if err := s.begun(ctx); err != nil {
		return 0, wrap("destroy", err)
	}
	var live int64
	seen := make(map[session.Key]*batch.Op, len(keys))
	var far []session.Key // followed in another way
	for hop := 0; len(keys) > 0; hop++ {
		if hop == maxHops {
			far = append(far, keys...)
			break
		}
		var ops []*batch.Op
		for _, at := range keys {
			if hop == 0 {
				var err error
				at, err = s.locateToWrite(ctx, s.control, at)
				if isNotFound(err) {
					continue
				}
				if err != nil {
					return live, wrap("destroy", err)
				}
			}
			if o := seen[at]; o != nil {
				if hop > 0 && o.Gone { // the caller that gave the key did not know that others lead to it
					far = append(far, at)
				}
				continue
			}
			o := &batch.Op{Key: at}
			seen[at] = o
			ops = append(ops, o)
		}
		for _, o := range ops { // every one of them is finished in the end
			w := s.cache.Begin(o.Key)
			o.After = func(error) { w.End() }
		}
		_ = s.writes.Destroys.Start(ctx, ops...) // Await tells it again
		// A renewed session lives on in its successor, which may be renewed
		// while we look: follow each to its end.
		keys = nil
		var firstErr error
		for _, o := range ops {
			if err := s.writes.Destroys.Await(ctx, o); err != nil {
				if firstErr == nil {
					firstErr = err
				}
				continue
			}
			if o.Live {
				live++
			}
			switch {
			case !o.Next.IsZero():
				keys = append(keys, o.Next)
			case o.Gone && hop > 0:
				far = append(far, o.Key)
			}
		}
		if firstErr != nil {
			return live, wrap("destroy", firstErr)
		}
	}
	ended, err := s.endHeads(ctx, far)
	live += ended
	if err != nil {
		return live, wrap("destroy", err)
	}
	s.stats.destroys.Add(uint64(live))
	return live, nil
}

// maxHops is how many successors Destroy follows step by step.
const maxHops = 3

// endHeads ends what keys have become. Renewals wait meanwhile: a client that
// renews as fast as it can would stay ahead of any number of steps.
func (s *Store) endHeads(ctx context.Context, keys []session.Key) (live int64, err error) {
	for _, key := range keys {
		ended, err := s.endHeadOf(ctx, key)
		if err != nil {
			return live, err
		}
		if ended {
			live++
		}
	}
	return live, nil
}

func (s *Store) endHeadOf(ctx context.Context, key session.Key) (wasLive bool, err error) {
	w := s.cache.Begin()
	defer w.End()
	err = s.writes.UntilKnown(ctx, s.control, nil, func(ctx context.Context, r db.Road) error {
		return r.Begin(ctx, func(ctx context.Context, tx *db.Transaction) error {
			head, live, err := s.endHead(ctx, tx, key)
			wasLive = live
			w.Add(head)
			tx.Notify(s.cache.Sender().Keys(head)...)
			return err
		})
	}, nil) // doing it again does no harm
	return wasLive, err
}

func (s *Store) endHead(ctx context.Context, tx pgx.Tx, key session.Key) (head session.Key, wasLive bool, err error) {
	for {
		var hash, next []byte
		var bucket int32
		var nextBucket zeronull.Int4
		var user string
		err := tx.QueryRow(ctx, s.parent.head, key.Hash[:], key.Bucket).Scan(&hash, &bucket, (*zeronull.Text)(&user), &next, &nextBucket)
		if errors.Is(err, pgx.ErrNoRows) {
			// Its partition is gone. Beside the keys that lead to it stands
			// what it was renewed to.
			err = tx.QueryRow(ctx, s.parent.probe, key.Hash[:]).Scan(&key.Bucket)
			if errors.Is(err, pgx.ErrNoRows) {
				return key, false, nil
			}
			if err != nil {
				return key, false, err
			}
			continue
		}
		if err != nil {
			return key, false, err
		}
		if next != nil {
			key = db.Successor(next, nextBucket)
			continue
		}
		stripe := batch.StripeOf(user)
		if _, err := tx.Exec(ctx, batch.TakeStripes, s.lockClass, stripe, stripe); err != nil {
			return key, false, err
		}
		was, err := batch.ScanState(tx.QueryRow(ctx, batch.LookOld(s.names.Sessions)+` FOR UPDATE`, hash, bucket))
		if err != nil {
			return key, false, err
		}
		if was.Next.IsZero() {
			_, err := tx.Exec(ctx, s.parent.end, [][]byte{hash}, []int32{bucket})
			return session.Key{Hash: [32]byte(hash), Bucket: bucket}, was.Live, err
		}
		key = was.Next // renewed before we had the lock
	}
}
