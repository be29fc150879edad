package nodestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// doc is a document of an express-session that lives an hour.
func doc(now time.Time, more string) []byte {
	return fmt.Appendf(nil, `{"cookie":{"originalMaxAge":3600000,"expires":%q,"httpOnly":true,"path":"/"}%s}`,
		now.Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000Z07:00"), more)
}

func mustCreate(t testing.TB, s *Store, id string, data []byte) Entry {
	t.Helper()
	e, err := s.Create(t.Context(), id, data, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestASessionLivesThroughAllCalls(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		ctx := t.Context()
		clock := newTestClock(frozen)
		s := openOn(t, db, l, created(quietly), clock.now)
		first := doc(clock.now(), `,"text":"Zoë 🚀 <&>"`)

		e := mustCreate(t, s, "one", first)
		if got, err := s.Get(ctx, "one"); err != nil || !got.Expires.Equal(e.Expires) || string(got.Data) != string(e.Data) {
			t.Fatalf("got %v %v, created %v", got, err, e)
		}
		if !l.JSONB && string(e.Data) != string(first) {
			t.Errorf("created %s of %s", e.Data, first)
		}
		_, err := s.Create(ctx, "one", first, time.Time{})
		wantErr(t, "create again", err, session.ErrExists)

		clock.add(time.Minute)
		saved, err := s.Save(ctx, e, doc(clock.now(), `,"n":2`), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if !saved.Expires.After(e.Expires) {
			t.Errorf("expires %v after %v", saved.Expires, e.Expires)
		}
		_, err = s.Save(ctx, e, first, time.Time{})
		wantErr(t, "save what was read before", err, session.ErrConflict)
		// The same again changes nothing, which is no failure.
		saved, err = s.Save(ctx, saved, saved.Data, saved.Expires)
		if err != nil {
			t.Errorf("save the same: %v", err)
		}

		renewed, err := s.Renew(ctx, saved, "two", saved.Data, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Get(ctx, "one")
		wantErr(t, "get the old ID", err, session.ErrNotFound)
		if got, err := s.Get(ctx, "two"); err != nil || string(got.Data) != string(saved.Data) {
			t.Errorf("got %v %v, renewed %v", got, err, renewed)
		}
		_, err = s.Renew(ctx, saved, "three", saved.Data, time.Time{})
		wantErr(t, "renew the old ID", err, session.ErrNotFound)
		_, err = s.Renew(ctx, renewed, "two", saved.Data, time.Time{})
		wantErr(t, "renew to itself", err, session.ErrExists)
		mustCreate(t, s, "taken", first)
		_, err = s.Renew(ctx, renewed, "taken", saved.Data, time.Time{})
		wantErr(t, "renew to another's", err, session.ErrExists)
		if _, err := s.Get(ctx, "two"); err != nil {
			t.Errorf("after renewals that failed: %v", err)
		}

		far := clock.now().Add(3 * day)
		if found, err := s.Touch(ctx, "two", far); err != nil || !found {
			t.Errorf("touch: %v %v", found, err)
		}
		if found, err := s.Touch(ctx, "two", far); err != nil || !found {
			t.Errorf("touch to the same: %v %v", found, err)
		}
		if got, err := s.Get(ctx, "two"); err != nil || got.Expires.Before(far.Add(-time.Second)) || string(got.Data) != string(saved.Data) {
			t.Errorf("after a touch to %v: %v %v", far, got, err)
		}
		if _, err := s.Save(ctx, renewed, first, time.Time{}); err != nil {
			t.Errorf("save after a touch: %v", err)
		}

		if n, err := s.Len(ctx); err != nil || n != 2 {
			t.Errorf("%d sessions (%v), want 2", n, err)
		}
		var ids []string
		for id, err := range s.IDs(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		if !slices.Equal(ids, []string{"taken", "two"}) {
			t.Errorf("IDs are %q", ids)
		}
		for range 2 {
			if err := s.Set(ctx, "three", first); err != nil {
				t.Error(err)
			}
		}
		if n, err := s.Destroy(ctx, "two", "unknown", "three"); err != nil || n != 2 {
			t.Errorf("destroyed %d (%v), want 2", n, err)
		}
		_, err = s.Save(ctx, renewed, first, time.Time{})
		wantErr(t, "save what was destroyed", err, session.ErrNotFound)
		if found, err := s.Touch(ctx, "two", far); err != nil || found {
			t.Errorf("touch what was destroyed: %v %v", found, err)
		}
		if n, err := s.Clear(ctx); err != nil || n != 1 {
			t.Errorf("cleared %d (%v), want 1", n, err)
		}

		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		_, err = s.Get(ctx, "two")
		wantErr(t, "get after close", err, session.ErrClosed)
		wantErr(t, "set after close", s.Set(ctx, "x", first), session.ErrClosed)
		_, err = s.Destroy(ctx)
		wantErr(t, "destroy after close", err, session.ErrClosed)
		if err := db.PingContext(ctx); err != nil {
			t.Errorf("the pool: %v", err)
		}
	})
}

func TestAWriteWithAPastExpiryEndsTheSession(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		ctx := t.Context()
		s := openOn(t, db, l, created(quietly), newTestClock(frozen).now)
		data, past := doc(frozen, ""), frozen.Add(-time.Hour)
		gone := func(what string) {
			t.Helper()
			if row := asText(t, db, l, l.IDPrefix+"a", l.Columns.ID); row != nil {
				t.Errorf("%s: there is a row", what)
			}
		}
		mustCreate(t, s, "a", data)
		if err := s.Set(ctx, "a", data, ExpiresAt(past)); err != nil {
			t.Error(err)
		}
		gone("set")
		if err := s.Set(ctx, "a", data, TTL(-time.Second)); err != nil {
			t.Error(err)
		}
		gone("set of nothing")
		e := mustCreate(t, s, "a", data)
		other := e
		other.Data = []byte(`{}`)
		_, err := s.Save(ctx, other, data, past)
		wantErr(t, "save of another document", err, session.ErrConflict)
		if _, err := s.Save(ctx, e, data, past); err != nil {
			t.Error(err)
		}
		gone("save")
		_, err = s.Save(ctx, e, data, past)
		wantErr(t, "save again", err, session.ErrNotFound)
		_, err = s.Create(ctx, "a", data, past)
		wantErr(t, "create", err, session.ErrDeadline)
		e = mustCreate(t, s, "a", data)
		_, err = s.Renew(ctx, e, "b", data, past)
		wantErr(t, "renew", err, session.ErrDeadline)
		if found, err := s.Touch(ctx, "a", past); err != nil || !found {
			t.Errorf("touch: %v %v", found, err)
		}
		_, err = s.Get(ctx, "a")
		wantErr(t, "get after a touch to the past", err, session.ErrNotFound)
	})
}

func TestWhatHasExpiredIsServedToNobody(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		ctx, clock := t.Context(), newTestClock(frozen)
		s := openOn(t, db, l, created(quietly), clock.now)
		data := doc(frozen, "")
		e := mustCreate(t, s, "a", data)
		clock.add(time.Hour + 2*time.Second)
		_, err := s.Get(ctx, "a")
		wantErr(t, "get", err, session.ErrNotFound)
		if found, err := s.Touch(ctx, "a", clock.now().Add(time.Hour)); err != nil || found {
			t.Errorf("touch: %v %v", found, err)
		}
		_, err = s.Save(ctx, e, data, clock.now().Add(time.Hour))
		wantErr(t, "save", err, session.ErrNotFound)
		_, err = s.Renew(ctx, e, "b", data, clock.now().Add(time.Hour))
		wantErr(t, "renew", err, session.ErrNotFound)
		if n, err := s.Len(ctx); err != nil || n != 0 {
			t.Errorf("%d sessions (%v)", n, err)
		}
		for e, err := range s.All(ctx) {
			t.Errorf("listed %v %v", e, err)
		}
		_, err = s.Create(ctx, "a", data, clock.now().Add(time.Hour))
		wantErr(t, "create", err, session.ErrExists)
		if err := s.Set(ctx, "a", data, ExpiresAt(clock.now().Add(time.Hour))); err != nil {
			t.Error(err)
		}
		if _, err := s.Get(ctx, "a"); err != nil {
			t.Errorf("get what was set anew: %v", err)
		}
	})
}

func TestConcurrentSaversLoseNothing(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		savers, each := 4, 50
		switch l.Package { // one for each dialect
		case "connect-pg-simple", "express-mysql-session", "@sailscastshq/connect-sqlite":
			each = 250
		}
		ctx := t.Context()
		a, b := openOn(t, db, l, created(quietly), time.Now), openOn(t, db, l, quietly, time.Now)
		now := time.Now()
		mustCreate(t, a, "counter", doc(now, `,"n":0`))
		type counted struct{ N int }
		var wg sync.WaitGroup
		for i := range savers {
			wg.Go(func() {
				s := []*Store{a, b}[i%2]
				for done := 0; done < each; {
					e, err := s.Get(ctx, "counter")
					var c counted
					if err == nil {
						err = json.Unmarshal(e.Data, &c)
					}
					if err == nil {
						_, err = s.Save(ctx, e, doc(now, fmt.Sprintf(`,"n":%d`, c.N+1)), time.Time{})
					}
					switch {
					case err == nil:
						done++
					case !errors.Is(err, session.ErrConflict):
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		e, err := a.Get(ctx, "counter")
		var c counted
		if err == nil {
			err = json.Unmarshal(e.Data, &c)
		}
		if err != nil || c.N != savers*each {
			t.Errorf("%d saves of %d are there (%v)", c.N, savers*each, err)
		}
	})
}

func TestNoSaveBringsBackWhatWasDestroyed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		ctx := t.Context()
		s, now := openOn(t, db, l, created(quietly), time.Now), time.Now()
		for range 100 {
			e := mustCreate(t, s, "a", doc(now, ""))
			var wg sync.WaitGroup
			wg.Go(func() {
				if n, err := s.Destroy(ctx, "a"); err != nil || n != 1 {
					t.Errorf("destroyed %d (%v)", n, err)
				}
			})
			wg.Go(func() {
				if _, err := s.Save(ctx, e, doc(now, `,"n":1`), time.Time{}); err != nil && !errors.Is(err, session.ErrNotFound) {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if _, err := s.Touch(ctx, "a", now.Add(day)); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			_, err := s.Get(ctx, "a")
			wantErr(t, "get", err, session.ErrNotFound)
		}
	})
}

func TestOneOfTwoRenewalsWins(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		ctx := t.Context()
		s, now := openOn(t, db, l, created(quietly), time.Now), time.Now()
		for round := range 20 {
			old := fmt.Sprint("old", round)
			e := mustCreate(t, s, old, doc(now, ""))
			errs := make([]error, 3)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() { _, errs[i] = s.Renew(ctx, e, fmt.Sprint("new", round, "-", i), e.Data, time.Time{}) })
			}
			wg.Wait()
			won := 0
			for i, err := range errs {
				_, there := s.Get(ctx, fmt.Sprint("new", round, "-", i))
				if err == nil {
					won++
				} else {
					wantErr(t, "renew", err, session.ErrNotFound)
				}
				if (err == nil) != (there == nil) {
					t.Errorf("renewed: %v, got: %v", err, there)
				}
			}
			if won != 1 {
				t.Errorf("%d won, want 1", won)
			}
		}
	})
}

func TestConcurrentFirstSetsAllSucceed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		s, now := openOn(t, db, l, created(quietly), time.Now), time.Now()
		for round := range 20 {
			id := fmt.Sprint("id", round)
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() {
					if err := s.Set(t.Context(), id, doc(now, fmt.Sprintf(`,"n":%d`, i))); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		if n, err := s.Len(t.Context()); err != nil || n != 20 {
			t.Errorf("%d sessions (%v), want 20", n, err)
		}
	})
}

func TestBadArgumentsAreNamed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		ctx := t.Context()
		opts := created(quietly)
		opts.MaxData = 60_000
		s := openOn(t, db, l, opts, newTestClock(frozen).now)
		good := doc(frozen, "")
		long := strings.Repeat("x", 3000)
		for _, id := range []string{"", "a\x00b", "\xff\xfe", long} {
			_, err := s.Get(ctx, id)
			wantErr(t, "get", err, session.ErrNotFound)
			if found, err := s.Touch(ctx, id, time.Time{}); found || err != nil {
				t.Errorf("touch: %v %v", found, err)
			}
			if n, err := s.Destroy(ctx, id); n != 0 || err != nil {
				t.Errorf("destroy: %d %v", n, err)
			}
			if err := s.Set(ctx, id, good); len(id) < 3000 {
				wantErr(t, "set", err, session.ErrInvalid)
			} else if s.table.maxID > 0 {
				wantErr(t, "set of a long ID", err, session.ErrTooLarge)
			}
		}
		for data, want := range map[string]error{
			"":                              session.ErrInvalid,
			"null":                          session.ErrInvalid,
			`[1]`:                           session.ErrInvalid,
			`{"a":1`:                        session.ErrInvalid,
			"{\"a\":\"\xff\"}":              session.ErrInvalid,
			`{"cookie":{"expires":"soon"}}`: session.ErrInvalid,
			`{"cookie":{"expires":{}}}`:     session.ErrInvalid,
			`{"cookie":{"expires":9e99}}`:   session.ErrInvalid,
			`{"a":"` + strings.Repeat("x", 60_000) + `"}`: session.ErrTooLarge,
		} {
			wantErr(t, fmt.Sprintf("set %.30s", data), s.Set(ctx, "a", []byte(data)), want)
			_, err := s.Create(ctx, "a", []byte(data), time.Time{})
			wantErr(t, fmt.Sprintf("create %.30s", data), err, want)
		}
		wantErr(t, "set beyond all times", s.Set(ctx, "a", good, ExpiresAt(time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC))), session.ErrDeadline)
		if n, err := s.Len(ctx); err != nil || n > 1 { // the long ID, where one may be
			t.Errorf("%d sessions (%v)", n, err)
		}
		// As long as they may be.
		if err := s.Set(ctx, "b", []byte(`{"a":"`+strings.Repeat("x", 59_992)+`"}`)); err != nil {
			t.Error(err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err := s.Get(ended, "b")
		wantErr(t, "get", err, context.Canceled)
		err = s.Set(ended, "b", good)
		wantErr(t, "set", err, context.Canceled)
		if errors.Is(err, session.ErrUnknown) {
			t.Errorf("%v, though nothing was sent", err)
		}
	})
}

func TestCallsThatAreUnderWaySurviveClose(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		for range 5 {
			s, now := openOn(t, db, l, created(quietly), time.Now), time.Now()
			var wg sync.WaitGroup
			begun := make(chan struct{}, 4)
			for i := range 4 {
				wg.Go(func() {
					for {
						err := s.Set(t.Context(), fmt.Sprint(i), doc(now, ""))
						if err == nil {
							_, err = s.Get(t.Context(), fmt.Sprint(i))
						}
						if err != nil {
							wantErr(t, "a call beside Close", err, session.ErrClosed)
							return
						}
						select {
						case begun <- struct{}{}:
						default:
						}
					}
				})
			}
			<-begun
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
			wg.Wait()
			// One that had looked before Close, and comes after.
			_, err := s.exec(t.Context(), nil, s.q.destroy, values{"id": "x"})
			wantErr(t, "exec", err, session.ErrClosed)
			_, err = s.rows(t.Context(), nil, s.q.get, values{"id": "x"})
			wantErr(t, "rows", err, session.ErrClosed)
		}
	})
}
