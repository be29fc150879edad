package mysqlstore

import (
	"context"
	"errors"
	"testing"

	"github.com/sojourn-go/sojourn/internal/mysqlconn"
	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/paging"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
	"github.com/sojourn-go/sojourn/session"
)

// A creation that the database has begun is part of what DestroyUser ends,
// however it is created.
func TestDestroyUserCatchesWhatIsBeingCreated(t *testing.T) {
	t.Parallel()
	ways := map[string]func(t testing.TB, s *Store, rec session.Record) error{
		"alone": func(t testing.TB, s *Store, rec session.Record) error {
			_, err := s.Create(t.Context(), rec)
			return err
		},
		"in a batch": func(t testing.TB, s *Store, rec session.Record) error {
			var ops []func() error
			for _, rec := range []session.Record{newSessionOf(s, unique("user")), rec} {
				ops = append(ops, func() error { _, err := s.Create(t.Context(), rec); return err })
			}
			return errors.Join(oneBatch(t, s.creates, ops...)...)
		},
		"by a renewal": func(t testing.TB, s *Store, rec session.Record) error {
			old := create(t, s, newSessionOf(s, ""))
			rec.Version = old.Version
			_, err := s.Renew(t.Context(), old.Key, rec, 0)
			return err
		},
		"under a limit": func(t testing.TB, s *Store, rec session.Record) error {
			_, _, err := s.CreateLimited(t.Context(), rec, session.UserLimit{Max: 5})
			return err
		},
	}
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s, other := openStore(t, p, quiet), openStore(t, p, quiet)
		for name, way := range ways {
			rec := newSessionOf(s, unique("user"))
			// Another one is about to use the same key, so the creation stops half-way.
			tx, commit := p.foreign(t)
			sqlExec(t, tx, `
INSERT INTO sojourn_sessions (hash, bucket, kept_to, version, expires_at, deadline, created_at)
VALUES (UNHEX(?), ?, ?, 1, ?, ?, 0)`, hexOf(rec.Key), rec.Key.Bucket, rec.Key.Bucket, rec.Expires.UnixMicro(), rec.Deadline.UnixMicro())
			holding(s.database)
			creating := async(func() error { return way(t, s, rec) })
			dbtest.Eventually(t, "the creation waits", func() bool { return p.blocked(t, s.database) == 1 })
			holding(s.database)
			var n int64
			ending := async(func() (err error) { n, err = other.DestroyUser(t.Context(), rec.User); return err })
			dbtest.Eventually(t, "DestroyUser waits too", func() bool {
				select {
				case err := <-ending:
					t.Fatalf("%s: DestroyUser did not wait: %d, %v", name, n, err)
				default:
				}
				return p.blocked(t, s.database) >= 2
			})
			sqlExec(t, tx, `ROLLBACK`)
			commit()
			if err := <-creating; err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := <-ending; err != nil {
				t.Errorf("%s: DestroyUser: %v", name, err)
			}
			if got, err := s.Get(t.Context(), rec.Key); err == nil {
				t.Errorf("%s: the session of %q survived", name, got.User)
			}
		}
	})
}

func TestSessionsOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	s := openStore(t, migrated(t, dbtest.MariaDB(t)), quiet)
	// More than one transaction ends, and the stripe of another user.
	user := unique("user")
	others := create(t, s, newSessionOf(s, unique("user")))
	var results []<-chan error
	for range sqlstore.StepRows + 10 {
		results = append(results, async(func() error { _, err := s.Create(t.Context(), newSessionOf(s, user)); return err }))
	}
	for _, r := range results {
		if err := <-r; err != nil {
			t.Fatal(err)
		}
	}
	spared := create(t, s, newSessionOf(s, user))
	if n, err := s.DestroyUser(t.Context(), user, spared.Key); n != sqlstore.StepRows+10 || err != nil {
		t.Errorf("DestroyUser = %d, %v; want %d", n, err, sqlstore.StepRows+10)
	}
	for _, key := range []session.Key{others.Key, spared.Key} {
		if _, err := s.Get(t.Context(), key); err != nil {
			t.Errorf("Get: %v", err)
		}
	}
	if n, err := s.Clear(t.Context()); n != 2 || err != nil {
		t.Errorf("Clear = %d, %v; want 2", n, err)
	}
}

func TestPagesOfSessionsThatBeganInOneMoment(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, quiet)
		const sessions = 10
		user := unique("user")
		for range sessions {
			create(t, s, newSessionOf(s, user))
		}
		sqlExec(t, p.db, `UPDATE sojourn_sessions SET created_at = 7 WHERE user_id = ?`, user)
		paging.Tied(t.Context(), t, s, user, sessions)
	})
}

// A limit holds by the rows that are the locks of the users. If one is gone, the
// users whose lock it is get an error instead of sessions beyond their limit, and
// all others get theirs.
func TestALockOfUsersThatIsGoneIsFoundOut(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, quiet)
		of := create(t, s, newSessionOf(s, "")) // to be renewed
		sqlExec(t, p.db, `DELETE FROM sojourn_sessions_users WHERE stripe = ?`, stripeOf("ada"))
		if stripeOf("ada") == stripeOf("bob") {
			t.Fatal("ada and bob share a lock")
		}
		_, err := s.Create(t.Context(), newSessionOf(s, "ada"))
		wantErr(t, "alone", err, ErrDamaged)
		errs := oneBatch(t, s.creates,
			func() error { _, err := s.Create(t.Context(), newSessionOf(s, "bob")); return err },
			func() error { _, err := s.Create(t.Context(), newSessionOf(s, "ada")); return err },
			func() error { _, err := s.Create(t.Context(), newSessionOf(s, "bob")); return err })
		for i, want := range []error{nil, ErrDamaged, nil} {
			wantErr(t, "in a batch", errs[i], want)
		}
		for range 3 {
			_, _, err = s.CreateLimited(t.Context(), newSessionOf(s, "ada"), session.UserLimit{Max: 1})
			wantErr(t, "under a limit", err, ErrDamaged)
		}
		rec := newSessionOf(s, "ada")
		rec.Version = of.Version
		_, err = s.Renew(t.Context(), of.Key, rec, 0)
		wantErr(t, "a renewal", err, ErrDamaged)
		_, _, err = s.RenewLimited(t.Context(), of.Key, rec, 0, session.UserLimit{Max: 1})
		wantErr(t, "a renewal under a limit", err, ErrDamaged)
		if n, err := s.CountUser(t.Context(), "ada"); n != 0 || err != nil {
			t.Errorf("ada has %d sessions, %v", n, err)
		}
		if _, err := New(t.Context(), p.db, quiet); !errors.Is(err, migrations.ErrNotMigrated) {
			t.Errorf("New: %v; want ErrNotMigrated", err)
		}
	})
}

// A number that is taken is no key that is: to try another key would never help.
func TestANumberThatIsTakenIsNoKeyThatIs(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, quiet)
		rec := create(t, s, newSession(s, "data"))
		sqlExec(t, p.db, `UPDATE sojourn_sessions SET id = 7`)
		err := s.waits.do(t.Context(), func(c *conn) error {
			if err := c.run(t.Context(), `SET insert_id = 7`); err != nil {
				return err
			}
			return (&tx{conn: c, s: s, ctx: t.Context()}).Insert(newSession(s, "data"), 0)
		})
		wantErr(t, "a number that somebody has taken", err, ErrDamaged)
		if _, err := s.Create(t.Context(), newSession(s, "data")); err != nil {
			t.Errorf("the number after it: %v", err)
		}
		sqlExec(t, p.db, `UPDATE sojourn_sessions SET id = 18446744073709551615 WHERE hash = ?`, rec.Key.Hash[:])
		for _, user := range []string{"", "ada"} {
			_, err := s.Create(t.Context(), newSessionOf(s, user))
			wantErr(t, "Create", err, ErrDamaged)
			if errors.Is(err, session.ErrExists) {
				t.Errorf("Create: %v", err)
			}
		}
		for _, err := range oneBatch(t, s.creates,
			func() error { _, err := s.Create(t.Context(), newSession(s, "a")); return err },
			func() error { _, err := s.Create(t.Context(), newSession(s, "b")); return err }) {
			wantErr(t, "in a batch", err, ErrDamaged)
		}
	})
}

// A stripe that is held for long holds up the logins of its users alone: the batch
// goes on without them.
func TestAHeldStripeHoldsUpNoOtherUsers(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, quiet)
		tx, release := p.foreign(t)
		sqlExec(t, tx, `SELECT * FROM sojourn_sessions_users WHERE stripe = ? FOR UPDATE`, stripeOf("ada"))
		before := s.Stats().Flushes
		results := begin(t, s.creates,
			func() error { _, err := s.Create(context.Background(), newSessionOf(s, "ada")); return err },
			func() error { _, err := s.Create(context.Background(), newSessionOf(s, "bob")); return err },
			func() error { _, err := s.Create(context.Background(), newSessionOf(s, "")); return err },
			func() error { _, err := s.Create(context.Background(), newSessionOf(s, "eve")); return err })
		for _, i := range []int{1, 2, 3} {
			wantErr(t, "a create of the same batch", <-results[i], nil)
		}
		if n := s.Stats().Flushes - before; n != 1 {
			t.Errorf("they took %d transactions; want 1", n)
		}
		dbtest.Eventually(t, "the one of the held stripe waits by itself", func() bool { return p.blocked(t, s.database) == 1 })
		lone := newSessionOf(s, "ada") // which no batch takes along
		alone := async(func() error { _, err := s.Create(context.Background(), lone); return err })
		wantErr(t, "another lone create", func() error { _, err := s.Create(t.Context(), newSessionOf(s, "bob")); return err }(), nil)
		release()
		wantErr(t, "the create that waited", <-results[0], nil)
		wantErr(t, "the lone one", <-alone, nil)
	})
}

// The server ends a connection that has had nothing to do for long, and its locks:
// nobody may be there any more.
func TestNoLockOutlivesItsHolder(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, quiet)
		c, err := newConn(t.Context(), p.db, s.conns.texts, s.conns.charset)
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		var seconds int
		if err := c.sql.QueryRowContext(t.Context(), `SELECT @@wait_timeout`).Scan(&seconds); err != nil || seconds != int(mysqlconn.IdleTimeout.Seconds()) {
			t.Errorf("the server waits %d s, %v", seconds, err)
		}
		for _, text := range []string{`SET SESSION wait_timeout = 1`, `START TRANSACTION`} {
			if err := c.run(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := (&tx{conn: c, s: s, ctx: t.Context()}).Admit("ada", true); err != nil {
			t.Fatal(err)
		}
		dbtest.Eventually(t, "the lock is free", func() bool {
			_, err := s.Create(t.Context(), newSessionOf(s, "ada"))
			return err == nil
		})
	})
}
