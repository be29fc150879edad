package nodestore

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// What the tests of express-mysql-session 3.0 ask of its store, of ours.
func TestWhatExpressMySQLSessionAsksOfItself(t *testing.T) {
	dbtest.EachMySQL(t, func(t *testing.T, server *dbtest.MySQLServer) {
		ctx, clock, l := t.Context(), newTestClock(frozen), ExpressMySQLSession()
		db := mysqlDB(t, server, nil)
		if _, err := newStore(ctx, db, l, quietly, clock.now); !errors.Is(err, ErrUnsuitable) {
			t.Errorf("without a table, and none to be made: %v, want ErrUnsuitable", err)
		}
		s := openOn(t, db, l, created(quietly), clock.now)
		openOn(t, db, l, created(quietly), clock.now) // there is one
		wantCount := func(want int) {
			t.Helper()
			listed := 0
			for _, err := range s.All(ctx) {
				if err != nil {
					t.Fatal(err)
				}
				listed++
			}
			if n, err := s.Len(ctx); err != nil || n != int64(want) || listed != want {
				t.Errorf("%d sessions (%v), %d listed, want %d", n, err, listed, want)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		set := func(id, data string) {
			t.Helper()
			must(s.Set(ctx, id, []byte(data)))
		}
		wantData := func(id, want string) {
			t.Helper()
			if e, err := s.Get(ctx, id); err != nil || string(e.Data) != want {
				t.Errorf("the session is %d bytes (%v), want %d", len(e.Data), err, len(want))
			}
		}

		wantCount(0)
		if _, err := s.Get(ctx, "nobody"); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("nobody's session: %v, want ErrNotFound", err)
		}
		if found, err := s.Touch(ctx, "nobody", frozen.Add(time.Hour)); found || err != nil {
			t.Errorf("nobody is touched: %v %v", found, err)
		}
		if n, err := s.Destroy(ctx, "nobody"); n != 0 || err != nil {
			t.Errorf("nobody is destroyed: %d %v", n, err)
		}
		wantCount(0)

		for _, data := range []string{`{"cookie":{},"some":"data"}`, `{"cookie":{},"emoji":"😀 ñ 漢"}`, `{"big":"` + strings.Repeat("x", 200<<10) + `"}`} {
			set("one", data) // the first creates it, the others replace it
			wantData("one", data)
			wantCount(1)
		}
		before := asText(t, db, l, "one", "data", "expires")
		found, err := s.Touch(ctx, "one", frozen.Add(48*time.Hour))
		after := asText(t, db, l, "one", "data", "expires")
		if err != nil || !found || after["data"] != before["data"] || after["expires"] == before["expires"] {
			t.Errorf("touched: %v %v, the expiry from %s to %s", found, err, before["expires"], after["expires"])
		}
		still := quietly
		still.DisableTouch = true
		if _, err := openOn(t, db, l, still, clock.now).Touch(ctx, "one", frozen.Add(72*time.Hour)); err != nil || asText(t, db, l, "one", "expires")["expires"] != after["expires"] {
			t.Errorf("with DisableTouch the expiry is moved (%v)", err)
		}

		set("two", `{"cookie":{"expires":"2030-01-01T01:00:00.000Z"}}`)
		wantCount(2)
		clock.add(2 * time.Hour)
		wantCount(1)
		if _, err := s.Get(ctx, "two"); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("what has expired: %v, want ErrNotFound", err)
		}
		if n, err := s.Prune(ctx); n != 1 || err != nil || asText(t, db, l, "two", "data") != nil {
			t.Errorf("pruned %d (%v), want the one that has expired", n, err)
		}
		if n, err := s.Destroy(ctx, "one"); n != 1 || err != nil {
			t.Errorf("destroyed %d (%v), want 1", n, err)
		}
		set("three", `{"cookie":{}}`)
		if n, err := s.Clear(ctx); n != 1 || err != nil {
			t.Errorf("cleared %d (%v), want 1", n, err)
		}
		wantCount(0)
		must(s.Close(ctx))
		must(db.PingContext(ctx)) // the pool is the caller's
	})
}
