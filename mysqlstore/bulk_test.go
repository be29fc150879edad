package mysqlstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// fillLive adds live sessions, of user if it is not empty.
func (p place) fillLive(t testing.TB, user string, n int) {
	t.Helper()
	for ; n > 0; n -= 100_000 {
		sqlExec(t, p.db, `
INSERT INTO sojourn_sessions (hash, bucket, kept_to, version, expires_at, deadline, created_at, user_id, data)
SELECT UNHEX(SHA2(CONCAT('live', UUID(), a.n, '.', b.n), 256)), e.at DIV 3600000000, e.at DIV 3600000000, 1, e.at, e.at, 0, ?, REPEAT('x', 200)
FROM (WITH RECURSIVE i (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 400) SELECT n FROM i) AS a
JOIN (WITH RECURSIVE j (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM j WHERE n < 250) SELECT n FROM j) AS b
JOIN (SELECT (`+started+` DIV 3600000000 + 24) * 3600000000 AS at) AS e
LIMIT `+fmt.Sprint(min(n, 100_000)), nullText(user))
	}
}

// A step has the write timeout, not the whole: that may take as long as it likes.
func TestEndingManyTakesLongerThanTheWriteTimeout(t *testing.T) {
	t.Parallel()
	const rows = 12 * sqlstore.StepRows
	for what, c := range map[string]struct {
		user string
		end  func(*Store) (int64, error)
	}{
		"DestroyUser": {"ada", func(s *Store) (int64, error) { return s.DestroyUser(t.Context(), "ada") }},
		"Clear":       {"", func(s *Store) (int64, error) { return s.Clear(t.Context()) }},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := migrated(t, dbtest.MariaDB(t))
			s := openStore(t, p, Options{PruneInterval: -1, WriteTimeout: 10 * time.Second})
			// Every third step takes 3 s, and what else it does.
			sqlExec(t, p.db, `CREATE TRIGGER slow BEFORE UPDATE ON sojourn_sessions FOR EACH ROW DO SLEEP(IF(OLD.id % `+fmt.Sprint(rows/4)+` = 0, 3, 0))`)
			p.fillLive(t, c.user, rows)
			began := time.Now()
			if n, err := c.end(s); err != nil || n != rows {
				t.Errorf("it is %d, %v; want %d", n, err, rows)
			}
			if took := time.Since(began); took < s.opts.WriteTimeout {
				t.Errorf("it took %v only, which proves nothing", took)
			}
			if n, err := s.Len(t.Context()); n != 0 || err != nil {
				t.Errorf("Len = %d, %v", n, err)
			}
		})
	}
}

// Who ends many sessions waits for rows that others hold, and keeps nothing
// locked meanwhile: neither the lock of the user nor other rows.
func TestRowsThatAreHeldKeepNobodyElseWaiting(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		for what, end := range map[string]func(*Store) (int64, error){
			"DestroyUser": func(s *Store) (int64, error) { return s.DestroyUser(t.Context(), "ada") },
			"Clear":       func(s *Store) (int64, error) { return s.Clear(t.Context()) },
		} {
			p := migrated(t, srv)
			s := openStore(t, p, quiet)
			var recs []session.Record
			for range 10 {
				recs = append(recs, create(t, s, newSessionOf(s, "ada")))
			}
			tx, commit := p.foreign(t)
			for _, rec := range recs[:2] {
				sqlExec(t, tx, `SELECT hash FROM sojourn_sessions WHERE hash = UNHEX(?) FOR UPDATE`, hexOf(rec.Key))
			}
			holding(s.database)
			var n int64
			ending := async(func() (err error) { n, err = end(s); return err })
			dbtest.Eventually(t, what+" waits", func() bool { return p.blocked(t, s.database) == 1 })
			other, done := p.foreign(t)
			locks := []string{`SELECT stripe FROM sojourn_sessions_users WHERE stripe = ` + fmt.Sprint(stripeOf("ada")) + ` FOR UPDATE NOWAIT`}
			for _, rec := range recs[2:] {
				locks = append(locks, `SELECT hash FROM sojourn_sessions WHERE hash = UNHEX('`+hexOf(rec.Key)+`') FOR UPDATE NOWAIT`)
			}
			for _, lock := range locks {
				if _, err := other.ExecContext(t.Context(), lock); err != nil {
					t.Errorf("%s: %s: %v", what, lock, err)
				}
			}
			done()
			create(t, s, newSessionOf(s, "ada"))
			commit()
			if err := <-ending; err != nil || n < 10 {
				t.Errorf("%s = %d, %v; want 10 at least", what, n, err)
			}
			for _, rec := range recs {
				_, err := s.Get(t.Context(), rec.Key)
				wantErr(t, "Get after "+what, err, session.ErrNotFound)
			}
		}
	})
}

// What is renewed while its row is held is ended as well.
func TestARenewalThatHoldsItsRowIsFollowed(t *testing.T) {
	t.Parallel()
	p := migrated(t, dbtest.MariaDB(t))
	s := openStore(t, p, quiet)
	for what, end := range map[string]func() (int64, error){
		"DestroyUser": func() (int64, error) { return s.DestroyUser(t.Context(), "ada") },
		"Clear":       func() (int64, error) { return s.Clear(t.Context()) },
	} {
		rec := create(t, s, newSessionOf(s, "ada"))
		p.fillLive(t, "ada", 2*sqlstore.StepRows) // behind it
		next := newSessionOf(s, "ada")
		tx, commit := p.foreign(t)
		sqlExec(t, tx, `UPDATE sojourn_sessions SET ended_at = 1, user_id = NULL, data = NULL, renewed_to = UNHEX(?), grace_until = 1 WHERE hash = UNHEX(?)`,
			hexOf(next.Key), hexOf(rec.Key))
		holding(s.database)
		ending := async(func() error { _, err := end(); return err })
		dbtest.Eventually(t, what+" waits", func() bool { return p.blocked(t, s.database) == 1 })
		sqlExec(t, tx, `
INSERT INTO sojourn_sessions (hash, bucket, kept_to, version, expires_at, deadline, created_at, user_id)
VALUES (UNHEX(?), ?, ?, 1, ?, ?, 0, 'ada')`, hexOf(next.Key), next.Key.Bucket, next.Key.Bucket, next.Expires.UnixMicro(), next.Deadline.UnixMicro())
		commit()
		if err := <-ending; err != nil {
			t.Errorf("%s: %v", what, err)
		}
		_, err := s.Get(t.Context(), next.Key)
		wantErr(t, "Get after "+what, err, session.ErrNotFound)
		if n, err := s.Len(t.Context()); n != 0 || err != nil {
			t.Errorf("%s left %d sessions, %v", what, n, err)
		}
	}
}

// A step reads no more than its page, in the order of an index.
func TestAStepReadsOnePage(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, quiet)
		p.fillLive(t, "ada", 10*sqlstore.StepRows)
		sqlExec(t, p.db, `UPDATE sojourn_sessions SET ended_at = 1, user_id = NULL, data = NULL WHERE id % 20 <> 0`)
		conn, err := p.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for q, args := range map[query][]any{
			pageToEnd:  {0, sqlstore.StepRows},
			pageOfUser: {[]byte("ada"), 0, sqlstore.StepRows},
		} {
			rows := func() (n int64) {
				var name string
				for _, counter := range []string{"Handler_read_next", "Handler_read_rnd_next", "Handler_read_rnd"} {
					var some int64
					if err := conn.QueryRowContext(t.Context(), `SHOW SESSION STATUS LIKE '`+counter+`'`).Scan(&name, &some); err != nil {
						t.Fatal(err)
					}
					n += some
				}
				return n
			}
			before := rows()
			found, err := conn.QueryContext(t.Context(), s.conns.texts.of(one(q)), args...)
			if err != nil {
				t.Fatal(err)
			}
			for found.Next() {
			}
			if err := found.Close(); err != nil {
				t.Error(err)
			}
			if n := rows() - before; n > 2*sqlstore.StepRows {
				t.Errorf("query %d read %d rows for %d", q, n, sqlstore.StepRows)
			}
		}
	})
}

// BenchmarkEnding ends many sessions beside logins, and tells how long the
// slowest of these took: a million by Clear, and a hundred thousand of one user
// by DestroyUser, where the logins are those of other users.
func BenchmarkEnding(b *testing.B) {
	for _, c := range []struct {
		name string
		user string
		rows int
		end  func(*Store) (int64, error)
	}{
		{"Clear", "", 1_000_000, func(s *Store) (int64, error) { return s.Clear(b.Context()) }},
		{"DestroyUser", "ada", 100_000, func(s *Store) (int64, error) { return s.DestroyUser(b.Context(), "ada") }},
	} {
		b.Run(c.name, func(b *testing.B) {
			if hasty() {
				c.rows = 2000
			}
			p := durable(b)
			s, other := openStore(b, p, quiet), openStore(b, p, quiet)
			p.fillLive(b, c.user, c.rows)
			beside := logins(b, other, func() { time.Sleep(time.Second) })
			var n int64
			began := time.Now()
			during := logins(b, other, func() {
				var err error
				if n, err = c.end(s); err != nil {
					b.Error(err)
				}
			})
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(time.Since(began).Seconds(), "wall_s")
			if n < int64(c.rows) {
				b.Errorf("%d sessions were ended", n)
			}
			for name, took := range map[string][]time.Duration{"quiet": beside, "ending": during} {
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, name+"_p99_ms")
				b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, name+"_max_ms")
			}
		})
	}
}

// logins is 8 users who log in until during has returned, and how long that took,
// sorted.
func logins(b *testing.B, s *Store, during func()) (took []time.Duration) {
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 8 {
		wg.Go(func() {
			for {
				rec := newSessionOf(s, fmt.Sprint("user ", rand.IntN(5000)))
				began := time.Now()
				_, err := s.Create(b.Context(), rec)
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
				if err != nil {
					b.Error(err)
				}
				if ctx.Err() != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	during()
	stop()
	wg.Wait()
	slices.Sort(took)
	return took
}
