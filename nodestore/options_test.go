package nodestore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// waits has a store wait for its passes, in a bubble with a clock of its own, and
// returns when the first ones were due.
func waits(t *testing.T, opts Options, n int, during func(*Store)) (due []time.Duration) {
	t.Helper()
	opts.PruneInterval = time.Hour
	s := offline(ConnectSQLite())
	s.opts, s.anew, s.asked = opts.withDefaults(s.layout), make(chan struct{}, 1), make(chan struct{}, 1)
	s.timed.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := time.Now()
	if during != nil {
		go during(s)
	}
	for range n {
		if !s.waitForPass(ctx) {
			t.Fatal("it ended")
		}
		due = append(due, time.Since(begun))
	}
	return due
}

func TestAPassIsDueAnIntervalAfterTheLastOne(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		opts   Options
		during func(*Store)
		want   string
	}{
		"exactly":        {Options{PruneExactly: true}, nil, "[1h0m0s 2h0m0s 3h0m0s]"},
		"own function":   {Options{NextPrune: func(d time.Duration) time.Duration { return 2 * d }}, nil, "[2h0m0s 4h0m0s 6h0m0s]"},
		"a negative one": {Options{NextPrune: func(d time.Duration) time.Duration { return -d }}, nil, "[1ms 2ms 3ms]"},
		"by hand":        {Options{PruneExactly: true}, func(s *Store) { time.Sleep(30 * time.Minute); s.waitAnew() }, "[1h30m0s 2h30m0s 3h30m0s]"},
		"by requests":    {Options{PruneExactly: true, PruneRequests: 1}, func(s *Store) { time.Sleep(30 * time.Minute); s.countRequest() }, "[30m0s 1h30m0s 2h30m0s]"},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := fmt.Sprint(waits(t, tt.opts, 3, tt.during)); got != tt.want {
					t.Errorf("passes are due after %s, want %s", got, tt.want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		last, seen := time.Duration(0), map[time.Duration]bool{}
		for _, due := range waits(t, Options{}, 50, nil) {
			if wait := due - last; wait < 30*time.Minute || wait > 90*time.Minute {
				t.Errorf("waited %v", wait)
			}
			seen[due-last], last = true, due
		}
		if len(seen) < 10 {
			t.Errorf("%d different waits", len(seen))
		}
	})
}

// rowsIn counts.
func rowsIn(t *testing.T, db *sql.DB, l Layout) (n int) {
	t.Helper()
	if err := db.QueryRowContext(context.Background(), "SELECT count(*) FROM "+qualified(l)).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRequestsBeginAPass(t *testing.T) {
	t.Parallel()
	db, l, clock := sqliteDB(t), ConnectSQLite(), newTestClock(frozen)
	s := openOn(t, db, l, created(Options{PruneInterval: -1, PruneRequests: 1}), clock.now)
	mustCreate(t, s, "a", doc(frozen, ""))
	clock.add(day)
	if rowsIn(t, db, l) != 1 {
		t.Fatal("the row is pruned already")
	}
	_, err := s.Get(t.Context(), "a")
	wantErr(t, "get", err, session.ErrNotFound)
	dbtest.Eventually(t, "the row is pruned", func() bool { return rowsIn(t, db, l) == 0 })
}

func TestNewPrunesNothing(t *testing.T) {
	t.Parallel()
	db, l, clock := sqliteDB(t), ConnectSQLite(), newTestClock(frozen)
	mustCreate(t, openOn(t, db, l, created(quietly), clock.now), "a", doc(frozen, ""))
	clock.add(day)
	waiting := make(chan time.Duration, 1)
	openOn(t, db, l, Options{PruneInterval: time.Hour, NextPrune: func(d time.Duration) time.Duration { waiting <- d; return d }}, clock.now)
	if d := <-waiting; d != time.Hour || rowsIn(t, db, l) != 1 {
		t.Errorf("the first wait is made of %v, and %d rows are left", d, rowsIn(t, db, l))
	}
}

func TestCloseClosesThePoolIfAsked(t *testing.T) {
	t.Parallel()
	for _, closes := range []bool{false, true} {
		db := sqliteDB(t)
		opts := created(quietly)
		opts.CloseDB = closes
		s := openOn(t, db, ConnectSQLite(), opts, time.Now)
		for range 2 {
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := db.PingContext(t.Context()); (err != nil) != closes {
			t.Errorf("CloseDB is %v: ping: %v", closes, err)
		}
	}
}

func TestSetTellsWhatItDestroyed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		s := openOn(t, db, l, created(quietly), newTestClock(frozen).now)
		mustCreate(t, s, "a", doc(frozen, ""))
		for _, want := range []int64{1, 0} {
			n := int64(-1)
			if err := s.Set(t.Context(), "a", doc(frozen, ""), TTL(-time.Hour), Destroyed(&n)); err != nil || n != want {
				t.Errorf("destroyed %d (%v), want %d", n, err, want)
			}
		}
		n := int64(-1)
		if err := s.Set(t.Context(), "a", doc(frozen, ""), Destroyed(&n)); err != nil || n != -1 {
			t.Errorf("told %d (%v) of a session that lives", n, err)
		}
	})
}

func TestTheDebugLogHasEachCallWithoutItsID(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	opts := created(quietly)
	opts.Logger = zap.New(core)
	s := openOn(t, sqliteDB(t), ConnectSQLite(), opts, time.Now)
	ctx := t.Context()
	const id = "a-secret-id"
	e := mustCreate(t, s, id, doc(time.Now(), ""))
	_, _ = s.Get(ctx, id)
	_ = s.Set(ctx, id, e.Data)
	_, _ = s.Touch(ctx, id, time.Time{})
	e, _ = s.Save(ctx, e, doc(time.Now(), `,"n":1`), time.Time{})
	_, _ = s.Renew(ctx, e, id+"2", e.Data, time.Time{})
	_, _ = s.Save(ctx, e, e.Data, time.Time{}) // fails
	for range s.IDs(ctx) {
	}
	for range s.All(ctx) {
	}
	_, _ = s.Len(ctx)
	_, _ = s.Prune(ctx)
	_, _ = s.Destroy(ctx, id)
	_, _ = s.Clear(ctx)
	var operations []string
	key := session.ForeignKey(ConnectSQLite().Package, id).String()
	for _, entry := range logs.FilterMessage("call").All() {
		fields := entry.ContextMap()
		operation := fmt.Sprint(fields["operation"])
		operations = append(operations, operation)
		if text := fmt.Sprint(fields); strings.Contains(text, id) || !strings.Contains(text, "took") {
			t.Errorf("%s: %s", operation, text)
		}
		_, failed := fields["error"]
		if _, keyed := fields["session"]; operation == "get" && fields["session"] != key || failed && !keyed {
			t.Errorf("%s: %v, want the key %s", operation, fields, key)
		}
	}
	if got, want := strings.Join(operations, ","), "create,get,set,touch,save,renew,save,list IDs,list,len,prune,destroy,clear"; got != want {
		t.Errorf("logged %s, want %s", got, want)
	}
}

func TestATableIsMadeWithTheCollation(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		for _, l := range []Layout{ConnectSessionSequelize(MySQL), KoaGenericSessionSequelize(MySQL), ExpressMySQLSession()} {
			db := mysqlDB(t, srv, nil)
			l.Collation = "utf8mb4_unicode_ci"
			openOn(t, db, l, created(quietly), time.Now)
			var got string
			row := db.QueryRowContext(t.Context(), `SELECT group_concat(DISTINCT COLLATION_NAME) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND COLLATION_NAME IS NOT NULL`)
			if err := row.Scan(&got); err != nil || got != l.Collation {
				t.Errorf("%s: the texts are %s (%v)", l.Package, got, err)
			}
		}
	})
	for _, l := range []Layout{ConnectPGSimple(), ExpressMySQLSession()} {
		l.Collation = "x; DROP"
		if err := l.validate(); err == nil || !strings.Contains(err.Error(), "Layout.Collation") {
			t.Errorf("%s: %v", l.Package, err)
		}
	}
}
