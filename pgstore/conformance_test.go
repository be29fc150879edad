package pgstore

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

func TestConformance(t *testing.T) {
	sessiontest.Run(t, harness(func(t testing.TB) place { return migrated(t) }))
}

func harness(at func(testing.TB) place) sessiontest.Harness {
	expire := func(t testing.TB, s *Store, db interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}, key session.Key) {
		var n int
		err := db.QueryRow(context.Background(), `
WITH w AS (UPDATE `+s.names.Sessions+` SET expires_at = clock_timestamp()
  WHERE key = $1 AND ended_at IS NULL AND expires_at > clock_timestamp() RETURNING 1)
SELECT count(*) FROM w`, key.Hash[:]).Scan(&n)
		if err != nil || n != 1 {
			t.Errorf("expire: %d rows, %v", n, err)
		}
	}
	return sessiontest.Harness{
		New: func(t testing.TB) session.Store {
			p := at(t)
			opts := quiet
			opts.Schema = p.schema
			s, err := New(t.Context(), p.pool, opts)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Peer: func(t testing.TB, s session.Store) session.Store {
			peer, err := New(t.Context(), s.(*Store).pool, s.(*Store).opts)
			if err != nil {
				t.Fatal(err)
			}
			return peer
		},
		Expire: func(t testing.TB, s session.Store, key session.Key) {
			expire(t, s.(*Store), s.(*Store).pool, key)
		},
		Vanish: func(t testing.TB, s session.Store, key session.Key) {
			if _, err := s.(*Store).pool.Exec(context.Background(), `DELETE FROM `+s.(*Store).names.Sessions+` WHERE key = $1`, key.Hash[:]); err != nil {
				t.Error(err)
			}
		},
		Hold: func(t testing.TB, s session.Store, key session.Key) func(bool) {
			ctx := context.Background()
			tx, err := s.(*Store).pool.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(ctx, `SELECT FROM `+s.(*Store).names.Sessions+` WHERE key = $1 FOR UPDATE`, key.Hash[:]); err != nil {
				t.Fatal(err)
			}
			return func(expired bool) {
				if expired {
					expire(t, s.(*Store), tx, key)
				}
				if err := tx.Commit(ctx); err != nil {
					t.Error(err)
				}
			}
		},
		Waiting: func(t testing.TB, s session.Store) (n int) {
			err := s.(*Store).pool.QueryRow(context.Background(), `
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%'`, s.(*Store).opts.Schema).Scan(&n)
			if err != nil {
				t.Error(err)
			}
			return n
		},
		Precision: time.Microsecond,
		Require: []sessiontest.Ability{
			sessiontest.Clock, sessiontest.Putter, sessiontest.Lister, sessiontest.Clearer,
			sessiontest.UserIndex, sessiontest.Pruner, sessiontest.LateToucher, sessiontest.Statser,
		},
	}
}
