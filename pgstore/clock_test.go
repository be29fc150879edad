package pgstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// jumping makes a table in a database whose clock can be set: ahead of the
// real one by an interval.
func jumping(t testing.TB, settings migrations.Settings) (p place, jump func(interval string)) {
	t.Helper()
	p = elsewhere(t, settings, "UTC", "0 hours")
	return p, func(interval string) {
		t.Helper()
		for _, f := range clockFunctions {
			p.exec(t, clockFunction(f, interval))
		}
	}
}

// usesOf are all uses of a session that make returns. Before each, forget makes
// the node know no more than it did.
func usesOf(t *testing.T, s *Store, forget func(), make func() session.Record) {
	t.Helper()
	ctx := t.Context()
	for _, use := range []struct {
		name string
		do   func(rec session.Record) (found bool, err error)
	}{
		{"Get", func(rec session.Record) (bool, error) { _, err := s.Get(ctx, rec.Key); return true, err }},
		{"GetFresh", func(rec session.Record) (bool, error) { _, err := s.GetFresh(ctx, rec.Key); return true, err }},
		{"Fate", func(rec session.Record) (bool, error) {
			fate, err := s.Fate(ctx, rec.Key)
			return fate == session.FateLive, err
		}},
		{"Save", func(rec session.Record) (bool, error) { _, err := s.Save(ctx, rec); return true, err }},
		{"Touch", func(rec session.Record) (bool, error) {
			_, err := s.Touch(ctx, rec.Key, rec.Deadline)
			return true, err
		}},
		{"TouchLater", func(rec session.Record) (bool, error) {
			_, err := s.TouchLater(ctx, rec.Key, rec.Deadline)
			return true, err
		}},
		{"Put", func(rec session.Record) (bool, error) {
			out, err := s.Put(ctx, session.Record{Key: rec.Key, User: rec.User, Data: []byte("put")})
			return out.Created.Equal(rec.Created), err
		}},
		{"Renew", func(rec session.Record) (bool, error) {
			next := rec
			next.Key = session.NewID(rec.Deadline).Key()
			_, err := s.Renew(ctx, rec.Key, next, 0)
			return true, err
		}},
		{"Destroy", func(rec session.Record) (bool, error) { n, err := s.Destroy(ctx, rec.Key); return n == 1, err }},
		{"DestroyOnAllNodes", func(rec session.Record) (bool, error) {
			n, err := s.DestroyOnAllNodes(ctx, rec.Key)
			return n == 1, err
		}},
	} {
		rec := make()
		forget()
		if found, err := use.do(rec); err != nil || !found {
			t.Errorf("%s of a live session: found: %v, %v", use.name, found, err)
		}
	}
}

// A node whose idea of the time is wrong sees all that there is.
func TestAClockThatJumpsHidesNoSession(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		interval string
		life     time.Duration
	}{
		{"2 hours", 24 * time.Hour},    // a deadline too far ahead for those who do not know
		{"60 hours", 24 * time.Hour},   // in no partition that they know
		{"-2 hours", 30 * time.Minute}, // one that has passed for them
		{"-60 hours", 30 * time.Minute},
	} {
		t.Run(c.interval, func(t *testing.T) {
			t.Parallel()
			p, jump := jumping(t, migrations.Settings{LongestLifetime: 24 * time.Hour, PartitionWidth: time.Hour, Lease: migrations.MinLease})
			s := p.open(t, quiet)
			known := s.table.Known.Load()
			jump(c.interval)
			other := p.open(t, quiet)
			usesOf(t, s, func() { s.table.Known.Store(known); s.hints.InvalidateAll() }, func() session.Record {
				rec := session.Record{Deadline: other.Now().Add(c.life), User: "ada", Data: []byte("x")}
				rec.Key = session.NewID(rec.Deadline).Key()
				rec, err := other.Create(t.Context(), rec)
				if err != nil {
					t.Fatal(err)
				}
				return rec
			})
			n := 0
			usesOf(t, s, func() { s.table.Known.Store(known); s.hints.InvalidateAll() }, func() session.Record {
				n++
				rec := session.Record{Key: session.ForeignKey("test", fmt.Sprint(n)), Deadline: other.Now().Add(c.life), User: "ada", Data: []byte("x")}
				rec, err := other.Create(t.Context(), rec)
				if err != nil {
					t.Fatal(err)
				}
				return rec
			})
		})
	}
}

// A shorter longest lifetime hides nothing that was made under a longer one.
func TestAShorterLongestLifetimeHidesNoSession(t *testing.T) {
	t.Parallel()
	p := migratedAt(t, dbtest.Postgres(t).Database(t), "sojourn", migrations.Settings{LongestLifetime: 48 * time.Hour, PartitionWidth: time.Hour, Lease: migrations.MinLease})
	old := p.open(t, quiet)
	var recs []session.Record
	for range 20 {
		rec := lasting(old, session.BucketOf(old.Now().Add(47*time.Hour)))
		rec, err := old.Create(t.Context(), rec)
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, rec)
	}
	if _, err := migrations.SetSettings(t.Context(), p.pool, p.config(), migrations.Settings{LongestLifetime: 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	s := p.open(t, quiet)
	n := 0
	usesOf(t, s, func() {}, func() session.Record {
		n++
		rec := recs[n]
		if s.Longest() != 24*time.Hour {
			t.Fatalf("the longest lifetime is %v", s.Longest())
		}
		return rec
	})
}

// A node that is wrong about the time is told so once: with the times computed
// anew it goes on. A save by such a node never ends a session.
func TestANodeWhoseClockLagsIsSetRight(t *testing.T) {
	t.Parallel()
	p, jump := jumping(t, migrations.Settings{LongestLifetime: 24 * time.Hour, Lease: migrations.MinLease})
	s := p.open(t, quiet)
	known := s.table.Known.Load()
	jump("2 hours")
	other := p.open(t, quiet)
	ctx := t.Context()
	soon := func(life time.Duration) session.Record {
		rec := session.Record{Deadline: s.Now().Add(life), User: "ada"}
		rec.Key = session.NewID(rec.Deadline).Key()
		return rec
	}
	for name, write := range map[string]func() error{
		"Create": func() error { _, err := s.Create(ctx, soon(time.Hour)); return err },
		"CreateLimited": func() error {
			_, _, err := s.CreateLimited(ctx, soon(time.Hour), session.UserLimit{Max: 100})
			return err
		},
		"Renew": func() error {
			rec, old := soon(time.Hour), create(t, other, "ada")
			rec.Version = old.Version
			_, err := s.Renew(ctx, old.Key, rec, 0)
			return err
		},
		"Put": func() error { _, err := s.Put(ctx, soon(time.Hour)); return err },
		"Put of a foreign session": func() error {
			rec := soon(time.Hour)
			rec.Key = session.ForeignKey("test", rec.Key.String())
			_, err := s.Put(ctx, rec)
			return err
		},
	} {
		s.table.Known.Store(known)
		wantErr(t, name+" by a clock that lags", write(), session.ErrDeadline)
		if off := other.Now().Sub(s.Now()).Abs(); off > time.Minute {
			t.Errorf("%s: the clock is still %v off", name, off)
		}
		wantErr(t, name+" by one that was set right", write(), nil)
	}
	for name, save := range map[string]func(rec session.Record) error{
		"Save": func(rec session.Record) error { _, err := s.Save(ctx, rec); return err },
		"Put":  func(rec session.Record) error { _, err := s.Put(ctx, rec); return err },
	} {
		rec := create(t, other, "ada")
		s.table.Known.Store(known)
		rec.Expires = s.Now().Add(30 * time.Minute)
		err := save(rec)
		wantErr(t, name+" by a clock that lags", err, session.ErrDeadline)
		if !isLive(t, p, rec.Key) {
			t.Errorf("%s by a clock that lags ended the session", name)
		}
		if off := other.Now().Sub(s.Now()).Abs(); off > time.Minute {
			t.Errorf("%s: the clock is still %v off", name, off)
		}
	}
	// What has passed by any clock ends the session.
	rec := create(t, other, "ada")
	rec.Expires = s.Now().Add(-time.Hour)
	_, err := s.Save(ctx, rec)
	wantErr(t, "Save with an expiry that has passed", err, nil)
	if isLive(t, p, rec.Key) {
		t.Error("it is live")
	}
	// Where the database's clock stepped back, and a deadline is too far for it.
	s.table.Known.Store(known)
	jump("-2 hours")
	wantErr(t, "Create by a clock that is ahead", func() error { _, err := s.Create(ctx, soon(24*time.Hour)); return err }(), session.ErrDeadline)
	wantErr(t, "Create by one that was set right", func() error { _, err := s.Create(ctx, soon(24*time.Hour)); return err }(), nil)
}

// A flush tells the node that it is wrong about the time.
func TestAWriteFindsOutThatTheClockWasSet(t *testing.T) {
	t.Parallel()
	p, jump := jumping(t, migrations.Settings{})
	s := p.open(t, quiet)
	jump("3 hours")
	before := s.Now()
	rec := fresh(s, "")
	rec.Expires = rec.Deadline
	rec, err := s.Create(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Touch(t.Context(), rec.Key, rec.Deadline); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Save(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, "the clock is read anew", func() bool { return s.Now().After(before.Add(2 * time.Hour)) })
}
