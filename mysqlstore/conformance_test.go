package mysqlstore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

func TestConformance(t *testing.T) {
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) { sessiontest.Run(t, harness(srv)) })
}

func TestHTTP(t *testing.T) {
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) { sessiontest.RunHTTP(t, harness(srv)) })
}

func harness(srv *dbtest.MySQLServer) sessiontest.Harness {
	return sessiontest.Harness{
		New: func(t testing.TB) session.Store {
			return openStore(t, migrated(t, srv), quiet)
		},
		Peer: func(t testing.TB, s session.Store) session.Store {
			return openStore(t, place{db: s.(*Store).conns.db}, quiet)
		},
		Narrow: func(t testing.TB, s session.Store) session.Store {
			db := s.(*Store).conns.db
			if _, err := migrations.SetSettings(t.Context(), db, migrations.Config{}, migrations.Settings{LongestLifetime: time.Hour, RetireGrace: time.Minute}); err != nil {
				t.Fatal(err)
			}
			narrow := quiet
			narrow.MaxData, narrow.MaxUser = 10, 1
			return openStore(t, place{db: db}, narrow)
		},
		Expire: func(t testing.TB, s session.Store, key session.Key) { expire(t, s.(*Store).conns.db, key) },
		Vanish: func(t testing.TB, s session.Store, key session.Key) {
			sqlExec(t, s.(*Store).conns.db, `DELETE FROM sojourn_sessions WHERE hash = UNHEX(?)`, hexOf(key))
		},
		Remains: func(t testing.TB, s session.Store, key session.Key) (remains bool) {
			err := s.(*Store).conns.db.QueryRowContext(t.Context(), `
SELECT COUNT(*) > 0 FROM sojourn_sessions WHERE hash = UNHEX(?) AND (user_id IS NOT NULL OR data IS NOT NULL)`, hexOf(key)).Scan(&remains)
			if err != nil {
				t.Error(err)
			}
			return remains
		},
		Age: func(t testing.TB, s session.Store, d time.Duration) {
			hours, micros := int64(d/time.Hour), d.Microseconds()
			sqlExec(t, s.(*Store).conns.db, `
UPDATE sojourn_sessions SET bucket = bucket - ?, kept_to = kept_to - ?, expires_at = expires_at - ?, deadline = deadline - ?,
  created_at = created_at - ?, ended_at = ended_at - ?, grace_until = grace_until - ?`, hours, hours, micros, micros, micros, micros, micros)
			if _, err := s.(*Store).PruneNow(t.Context()); err != nil {
				t.Error(err)
			}
		},
		Hold: func(t testing.TB, s session.Store, key session.Key) func(bool) {
			conn, err := s.(*Store).conns.db.Conn(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			sqlExec(t, conn, `START TRANSACTION`)
			sqlExec(t, conn, `SELECT hash FROM sojourn_sessions WHERE hash = UNHEX(?) FOR UPDATE`, hexOf(key))
			holding(s.(*Store).database)
			return func(expired bool) {
				if expired {
					expire(t, conn, key)
				}
				sqlExec(t, conn, `COMMIT`)
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			}
		},
		Waiting: func(t testing.TB, s session.Store) int {
			return place{db: s.(*Store).conns.db}.blocked(t, s.(*Store).database)
		},
		Queues:    true,
		Precision: time.Microsecond,
		Require: []sessiontest.Ability{
			sessiontest.Clock, sessiontest.Putter, sessiontest.Lister, sessiontest.Clearer,
			sessiontest.UserIndex, sessiontest.Pruner, sessiontest.Explainer, sessiontest.Statser,
		},
	}
}

func expire(t testing.TB, db execer, key session.Key) {
	n := sqlExec(t, db, `
UPDATE sojourn_sessions SET expires_at = `+started+` WHERE hash = UNHEX(?) AND ended_at IS NULL AND expires_at > `+started, hexOf(key))
	if n != 1 {
		t.Errorf("the session to expire is not live: %d rows", n)
	}
}

// hexOf spares MySQL's list of statements what it cannot show.
func hexOf(key session.Key) string { return hex.EncodeToString(key.Hash[:]) }

type execer interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}
