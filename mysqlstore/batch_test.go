package mysqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// queued is how many writes wait to be taken by a lane.
func (l *lane) queued() int {
	waits, _ := l.Len()
	return waits
}

// oneBatch makes a lane write ops together and returns their results.
func oneBatch(t testing.TB, l *lane, ops ...func() error) []error {
	t.Helper()
	errs := make([]error, len(ops))
	for i, r := range begin(t, l, ops...) {
		errs[i] = <-r
	}
	return errs
}

// begin makes a lane write ops together: it may not begin until all of them are
// queued.
func begin(t testing.TB, l *lane, ops ...func() error) []<-chan error {
	t.Helper()
	for range cap(l.flights) {
		l.flights <- struct{}{}
	}
	var results []<-chan error
	for i, op := range ops {
		results = append(results, async(op))
		dbtest.Eventually(t, "the write was queued", func() bool { return l.queued() > i || len(results[i]) > 0 })
	}
	for range cap(l.flights) {
		<-l.flights
	}
	return results
}

func saveAs(s *Store, rec session.Record, data string) func() error {
	rec.Data = []byte(data)
	return func() error {
		got, err := s.Save(context.Background(), rec)
		if err == nil && (got.Version <= rec.Version || string(got.Data) != data || !got.Deadline.Equal(rec.Deadline)) {
			return fmt.Errorf("Save returned %+v", got)
		}
		return err
	}
}

func TestWritesThatWaitShareATransaction(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		s := openStore(t, migrated(t, srv), quiet)
		const n = 100
		recs := make([]session.Record, n)
		run := func(what string, l *lane, do func(i int) error) {
			t.Helper()
			var ops []func() error
			for i := range n {
				ops = append(ops, func() error { return do(i) })
			}
			before := s.Stats().Flushes
			for i, err := range oneBatch(t, l, ops...) {
				if err != nil {
					t.Fatalf("%s %d: %v", what, i, err)
				}
			}
			if got := s.Stats().Flushes - before; got > 2 {
				t.Errorf("%s: %d writes took %d transactions", what, n, got)
			}
		}
		run("create", s.creates, func(i int) (err error) {
			rec := newSessionOf(s, "")
			if i%2 == 0 {
				rec.User = fmt.Sprint("user ", i)
			}
			recs[i], err = s.Create(t.Context(), rec)
			return err
		})
		run("save", s.saves, func(i int) error {
			rec := recs[i]
			rec.Data = []byte(strings.Repeat("x", i*100))
			if i%3 == 0 {
				rec.Expires = time.Time{}
			}
			got, err := s.Save(t.Context(), rec)
			if err == nil && (got.Version <= recs[i].Version || !got.Expires.Equal(recs[i].Expires) || !got.Created.Equal(recs[i].Created)) {
				t.Errorf("Save returned %+v", got)
			}
			recs[i] = got
			return err
		})
		run("touch", s.touches, func(i int) error {
			want := recs[i].Expires.Add(time.Duration(i-10) * time.Second)
			got, err := s.Touch(t.Context(), recs[i].Key, want)
			if want.Before(recs[i].Expires) {
				want = recs[i].Expires
			}
			if err == nil && !got.Equal(want) {
				t.Errorf("Touch returned %v; want %v", got, want)
			}
			recs[i].Expires = want
			return err
		})
		for i := range recs {
			got, err := s.Get(t.Context(), recs[i].Key)
			if err != nil || got.Version != recs[i].Version || string(got.Data) != string(recs[i].Data) || !got.Expires.Equal(recs[i].Expires) || got.User != recs[i].User {
				t.Errorf("Get = %+v, %v", got, err)
			}
		}
		run("destroy", s.destroys, func(i int) error {
			n, err := s.Destroy(t.Context(), recs[i].Key)
			if err == nil && n != 1 {
				t.Errorf("Destroy = %d", n)
			}
			return err
		})
		if n, err := s.Len(t.Context()); n != 0 || err != nil {
			t.Errorf("Len = %d, %v", n, err)
		}
	})
}

// A batch locks, writes and commits: its transaction begins by itself.
func TestABatchTakesThreeRoundTrips(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		s := openStore(t, migrated(t, srv), quiet)
		recs := make([]session.Record, 16)
		for i := range recs {
			recs[i] = create(t, s, newSessionOf(s, ""))
		}
		var saving *conn
		asked := func() (n int64) {
			err := s.writes.begin(t.Context(), func(c *conn) error {
				if saving != nil && saving != c {
					t.Fatal("it is another connection")
				}
				saving = c
				var name string
				return c.sql.QueryRowContext(t.Context(), `SHOW SESSION STATUS LIKE 'Questions'`).Scan(&name, &n)
			})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		save := func() {
			var ops []func() error
			for i := range recs {
				ops = append(ops, func() (err error) { recs[i], err = s.Save(t.Context(), recs[i]); return err })
			}
			for _, err := range oneBatch(t, s.saves, ops...) {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		save() // prepares its statements
		before := asked()
		save()
		if n := asked() - before - 1; n != 3 {
			t.Errorf("a batch took %d round trips; want 3", n)
		}
	})
}

// What is wrong with one write of a batch, or in its way, is no matter to the
// others.
func TestAWriteOfABatchFailsOrWaitsAlone(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, quiet)
		made := func() session.Record { return create(t, s, newSessionOf(s, "ada")) }
		good, stale, dead, renewed, stranger, ending, held := made(), made(), made(), made(), made(), made(), made()
		absent := newSession(s, "absent")
		if _, err := s.Destroy(t.Context(), dead.Key); err != nil {
			t.Fatal(err)
		}
		next := newSessionOf(s, "ada")
		next.Version = renewed.Version
		if _, err := s.Renew(t.Context(), renewed.Key, next, time.Minute); err != nil {
			t.Fatal(err)
		}
		stale.Version = 7
		stranger.User = "eve"
		ending.Expires = s.Now().Add(-time.Second)
		commit := p.lockRow(t, held.Key)
		before := s.Stats().Flushes
		results := begin(t, s.saves,
			saveAs(s, good, "good"), saveAs(s, stale, "stale"), saveAs(s, dead, "dead"), saveAs(s, renewed, "renewed"),
			saveAs(s, stranger, "stranger"), saveAs(s, ending, "ending"), saveAs(s, absent, "absent"),
			saveAs(s, held, "held"),
		)
		locked := results[len(results)-1]
		for i, want := range []error{nil, session.ErrConflict, session.ErrNotFound, session.ErrConflict, session.ErrUserChanged, nil, session.ErrNotFound} {
			if err := <-results[i]; !errors.Is(err, want) || (want == nil) != (err == nil) {
				t.Errorf("save %d: %v; want %v", i, err, want)
			}
		}
		select {
		case err := <-locked:
			t.Errorf("the write to a locked row did not wait: %v", err)
		default:
		}
		if s.Stats().Flushes == before {
			t.Error("the others were not written together")
		}
		saved, err := s.Get(t.Context(), good.Key)
		if err != nil {
			t.Fatal(err)
		}
		// Nor does a lane wait for it.
		if _, err := s.Save(t.Context(), session.Record{Key: good.Key, Version: saved.Version, User: "ada", Data: []byte("again")}); err != nil {
			t.Errorf("Save meanwhile: %v", err)
		}
		commit()
		if err := <-locked; err != nil {
			t.Errorf("the write to a locked row: %v", err)
		}

		// Creates: one key is used already, and one is too large for the table.
		again := newSessionOf(s, "ada")
		again.Key = good.Key
		creating := func(rec session.Record) func() error {
			return func() error { _, err := s.Create(context.Background(), rec); return err }
		}
		fine := newSessionOf(s, "ada")
		errs := oneBatch(t, s.creates, creating(again), creating(fine), creating(newSessionOf(s, "")))
		if !errors.Is(errs[0], session.ErrExists) || errs[1] != nil || errs[2] != nil {
			t.Errorf("creates: %v", errs)
		}
		if got, err := s.Get(t.Context(), good.Key); err != nil || string(got.Data) != "again" || got.Version <= saved.Version {
			t.Errorf("Get = %q, version %d, %v", got.Data, got.Version, err)
		}
	})
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	p := migrated(t, dbtest.MariaDB(t))
	for name, opts := range map[string]Options{
		"by their number": {BatchItems: 8, PruneInterval: -1},
		"by their size":   {BatchBytes: 8 * (1000 + perItem), PruneInterval: -1},
	} {
		s := openStore(t, p, opts)
		var ops []func() error
		for range 80 {
			ops = append(ops, func() error {
				_, err := s.Create(t.Context(), newSession(s, string(make([]byte, 1000))))
				return err
			})
		}
		before := s.Stats().Flushes
		for _, err := range oneBatch(t, s.creates, ops...) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := s.Stats().Flushes - before; got < 10 || got > 16 {
			t.Errorf("%s: 80 writes took %d transactions; want about 10", name, got)
		}
	}
}

// A row that others keep holds up nobody but those who want it, and those not
// longer than the write timeout.
func TestALockThatIsKeptFailsItsWritesInTime(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		opts := quiet
		opts.WriteTimeout = 6 * time.Second
		s := openStore(t, p, opts)
		rec, free := create(t, s, newSessionOf(s, "ada")), create(t, s, newSessionOf(s, "ada"))
		commit := p.lockRow(t, rec.Key)
		results := map[string]<-chan error{
			"Save":    async(func() error { _, err := s.Save(t.Context(), rec); return err }),
			"Touch":   async(func() error { _, err := s.Touch(t.Context(), rec.Key, rec.Deadline); return err }),
			"Destroy": async(func() error { _, err := s.Destroy(t.Context(), rec.Key); return err }),
			"Put":     async(func() error { _, err := s.Put(t.Context(), rec); return err }),
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for range 20 {
			var err error
			if free, err = s.Save(ctx, free); err != nil {
				t.Fatalf("Save meanwhile: %v", err)
			}
			if _, err := s.Get(ctx, rec.Key); err != nil {
				t.Fatalf("Get meanwhile: %v", err)
			}
		}
		for what, result := range results {
			err := <-result
			if !errors.Is(err, ErrLocked) || errors.Is(err, session.ErrUnknown) || mysqlError(err) == "" {
				t.Errorf("%s: %v; want ErrLocked with the driver's error", what, err)
			}
		}
		commit()
		if saved, err := s.Save(t.Context(), rec); err != nil || saved.Version <= rec.Version {
			t.Errorf("Save afterwards = version %d, %v", saved.Version, err)
		}
	})
}

func TestWhoGivesUpInTheQueueHasWrittenNothing(t *testing.T) {
	t.Parallel()
	s := openStore(t, migrated(t, dbtest.MariaDB(t)), quiet)
	rec := create(t, s, newSession(s, "data"))
	ctx, cancel := context.WithCancel(t.Context())
	for range cap(s.saves.flights) {
		s.saves.flights <- struct{}{}
	}
	done := async(func() error { _, err := s.Save(ctx, rec); return err })
	dbtest.Eventually(t, "it waits", func() bool { return s.saves.queued() == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || errors.Is(err, session.ErrUnknown) {
		t.Errorf("Save: %v; want that it was cancelled and nothing else", err)
	}
	for range cap(s.saves.flights) {
		<-s.saves.flights
	}
	if got, err := s.Save(t.Context(), rec); err != nil || got.Version <= rec.Version {
		t.Errorf("Save afterwards = version %d, %v", got.Version, err)
	}
}
