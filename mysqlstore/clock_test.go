package mysqlstore

import (
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
	"github.com/sojourn-go/sojourn/session"
)

// off makes the node wrong about the database's time, as after a step of that
// one's clock.
func (s *Store) off(by time.Duration) {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	s.clock.ahead, s.clock.last = s.clock.ahead.Add(by), time.Time{}
}

// A node that is wrong about the time is told so once: with the times computed
// anew it goes on. Nothing is created that is dead at once.
func TestANodeWhoseClockIsWrongIsSetRight(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s, other := openStore(t, p, quiet), openStore(t, p, quiet)
		for name, write := range map[string]func(session.Record) error{
			"Create": func(rec session.Record) error { _, err := s.Create(ctx, rec); return err },
			"Create without a user": func(rec session.Record) error {
				rec.User = ""
				_, err := s.Create(ctx, rec)
				return err
			},
			"Create in a batch": func(rec session.Record) error {
				fits := session.Record{Deadline: other.Now().Add(24 * time.Hour)}
				fits.Key = session.NewID(fits.Deadline).Key()
				errs := oneBatch(t, s.creates,
					func() error { _, err := s.Create(ctx, rec); return err },
					func() error { _, err := s.Create(ctx, fits); return err })
				wantErr(t, "Create of what is right by both clocks", errs[1], nil)
				return errs[0]
			},
			"CreateLimited": func(rec session.Record) error {
				_, _, err := s.CreateLimited(ctx, rec, session.UserLimit{Max: 100})
				return err
			},
			"Renew": func(rec session.Record) error {
				old := create(t, other, newSessionOf(other, "ada"))
				rec.Version = old.Version
				_, err := s.Renew(ctx, old.Key, rec, 0)
				return err
			},
			"Put": func(rec session.Record) error { _, err := s.Put(ctx, rec); return err },
			"Put of a foreign session": func(rec session.Record) error {
				rec.Key = session.ForeignKey("test", rec.Key.String())
				_, err := s.Put(ctx, rec)
				return err
			},
		} {
			for _, c := range []struct {
				by, life time.Duration
			}{
				{-2 * time.Hour, time.Hour},            // it has passed
				{2 * time.Hour, s.Longest()},           // it is too far ahead
				{2 * time.Hour, -30 * time.Minute},     // it has not passed, as this node believes
				{-2 * time.Hour, s.Longest() + 5400e9}, // it is not too far, as this node believes
			} {
				computed := func() session.Record {
					rec := session.Record{Deadline: s.Now().Add(c.life), User: "ada"}
					rec.Key = session.NewID(rec.Deadline).Key()
					return rec
				}
				s.off(c.by)
				rec := computed()
				wrong := c.life > 0 && c.life <= s.Longest()
				err := write(rec)
				switch {
				case name == "Renew" && c.life >= s.Longest(): // it may be as long as it likes, or as the old one
				case wrong:
					wantErr(t, name+" by a clock that is wrong", err, session.ErrDeadline)
				default:
					wantErr(t, name+" of what is right", err, nil)
				}
				if d := other.Now().Sub(s.Now()).Abs(); d > time.Minute {
					t.Errorf("%s: the clock is still %v off", name, d)
					s.off(other.Now().Sub(s.Now()))
				}
				if wrong {
					wantErr(t, name+" by one that was set right", write(computed()), nil)
				}
			}
		}
		if n, err := s.Len(ctx); n == 0 || n != p.liveRows(t) || err != nil {
			t.Errorf("Len = %d, %v; %d rows were not ended", n, err, p.liveRows(t))
		}
	})
}

func (p place) liveRows(t testing.TB) (n int64) {
	t.Helper()
	if err := p.db.QueryRow(`SELECT COUNT(*) FROM sojourn_sessions WHERE ended_at IS NULL`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A save by a node that is behind never ends a session.
func TestASaveByAClockThatLagsEndsNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s, other := openStore(t, p, quiet), openStore(t, p, quiet)
		for name, save := range map[string]func(session.Record) error{
			"Save": func(rec session.Record) error { _, err := s.Save(ctx, rec); return err },
			"Save in a batch": func(rec session.Record) error {
				beside := create(t, other, newSessionOf(other, "ada"))
				errs := oneBatch(t, s.saves, func() error { _, err := s.Save(ctx, rec); return err }, saveAs(s, beside, "beside"))
				wantErr(t, "Save beside it", errs[1], nil)
				return errs[0]
			},
			"Put": func(rec session.Record) error { _, err := s.Put(ctx, rec); return err },
		} {
			rec := create(t, other, newSessionOf(other, "ada"))
			s.off(-2 * time.Hour)
			rec.Expires = s.Now().Add(30 * time.Minute)
			wantErr(t, name+" by a clock that lags", save(rec), session.ErrDeadline)
			if _, err := other.Get(ctx, rec.Key); err != nil {
				t.Errorf("%s by a clock that lags ended the session: %v", name, err)
			}
			if d := other.Now().Sub(s.Now()).Abs(); d > time.Minute {
				t.Errorf("%s: the clock is still %v off", name, d)
			}
			rec.Expires = s.Now().Add(30 * time.Minute)
			wantErr(t, name+" by one that was set right", save(rec), nil)

			// What has passed by any clock ends the session.
			rec = create(t, other, newSessionOf(other, "ada"))
			rec.Expires = s.Now().Add(-time.Hour)
			wantErr(t, name+" with an expiry that has passed", save(rec), nil)
			_, err := other.Get(ctx, rec.Key)
			wantErr(t, "Get", err, session.ErrNotFound)
		}
	})
}

// Nodes follow when others agree on another longest lifetime, at the latest when
// that makes a difference.
func TestANodeFollowsTheLongestLifetime(t *testing.T) {
	t.Parallel()
	p := migrated(t, dbtest.MariaDB(t))
	s := openStore(t, p, quiet)
	set := func(longest time.Duration) {
		t.Helper()
		if _, err := migrations.SetSettings(t.Context(), p.db, migrations.Config{}, migrations.Settings{LongestLifetime: longest}); err != nil {
			t.Fatal(err)
		}
	}
	lasting := func(d time.Duration) error {
		rec := session.Record{Deadline: s.Now().Add(d)}
		rec.Key = session.NewID(rec.Deadline).Key()
		_, err := s.Create(t.Context(), rec)
		return err
	}
	wantErr(t, "Create of 60 days", lasting(60*24*time.Hour), session.ErrDeadline)
	set(90 * 24 * time.Hour)
	wantErr(t, "Create of 60 days once that is allowed", lasting(60*24*time.Hour), nil)
	set(time.Hour)
	if err := s.refresh(t.Context()); err != nil { // as it does twice a minute
		t.Fatal(err)
	}
	wantErr(t, "Create of two hours once that is too long", lasting(2*time.Hour), session.ErrDeadline)
	if s.Longest() != time.Hour {
		t.Errorf("the longest lifetime is %v", s.Longest())
	}
}

// A shorter grace takes nothing away that the former one keeps.
func TestAShorterRetireGraceWaitsForTheFormer(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, quiet)
		rec := create(t, s, newSessionOf(s, "ada"))
		p.age(t, rec, 10*time.Hour)
		set := func(grace time.Duration) {
			t.Helper()
			got, err := migrations.SetSettings(t.Context(), p.db, migrations.Config{}, migrations.Settings{RetireGrace: grace})
			if err != nil || got.RetireGrace != grace {
				t.Errorf("SetSettings = %v, %v; want %v", got.RetireGrace, err, grace)
			}
		}
		changed := func(ago time.Duration) {
			sqlExec(t, p.db, `UPDATE sojourn_sessions_meta SET retire_grace_changed_at = `+started+` - ?`, ago.Microseconds())
		}
		kept := func(want int64) {
			t.Helper()
			done, err := s.PruneNow(t.Context())
			if n := p.rows(t); n != want || err != nil {
				t.Errorf("PruneNow = %+v, %v; %d rows are left, want %d", done, err, n, want)
			}
		}
		kept(1) // for a day
		set(2 * time.Hour)
		kept(1)
		set(time.Hour) // the longest of all that may still keep something
		kept(1)
		changed(23 * time.Hour)
		kept(1)
		changed(25 * time.Hour)
		kept(0)
		_, err := New(t.Context(), p.db, Options{RetireGrace: 2 * time.Hour})
		wantErr(t, "New with another grace", err, ErrSettings)
		openStore(t, p, Options{RetireGrace: time.Hour, PruneInterval: -1})
		// A longer one counts at once.
		rec = create(t, s, newSessionOf(s, "ada"))
		p.age(t, rec, 10*time.Hour)
		set(12 * time.Hour)
		kept(1)
	})
}
