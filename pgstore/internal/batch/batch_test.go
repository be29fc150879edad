package batch

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

func serverError(code string) error { return &pgconn.PgError{SeverityUnlocalized: "ERROR", Code: code} }

// open makes a writer of batches to the one table "sessions", with a pool of
// their own.
func open(t *testing.T) *Writer {
	t.Helper()
	pool := dbtest.Pool(t, dbtest.Postgres(t).Database(t), func(c *pgxpool.Config) { c.MaxConns = 4 })
	_, err := pool.Exec(t.Context(), `
CREATE TABLE sessions (key bytea, bucket integer, version bigint, expires_at timestamptz, deadline timestamptz, created_at timestamptz,
  user_id text, data bytea, ended_at timestamptz, renewed_to bytea, renewed_bucket integer, grace_until timestamptz, PRIMARY KEY (key, bucket))`)
	if err != nil {
		t.Fatal(err)
	}
	conns, err := db.New(t.Context(), pool, db.Options{Channel: "c", ReadTimeout: time.Minute, WriteTimeout: time.Minute, Unhurried: true})
	if err != nil {
		t.Fatal(err)
	}
	app, control := conns.Roads()
	table := NewTexts("public.sessions")
	w := New(Options{
		App: app, Control: control, Items: 100, Bytes: 1 << 20, WriteTimeout: time.Minute, Parent: "public.sessions", LockClass: 1,
		Find:  func(int32) (*Texts, int64) { return table, math.MaxInt32 + 1 },
		Stale: func() {}, Now: time.Now, Longest: func() time.Duration { return 48 * time.Hour }, Compare: func(_, _ time.Time) {},
		Payloads: func(keys ...session.Key) []string { return []string{"written"} },
		Disown:   func() {}, Log: zap.NewExample(),
	})
	t.Cleanup(func() { w.Close(); conns.Break(); conns.Close() })
	return w
}

func creation(user string) *Op {
	deadline := time.Now().Add(24 * time.Hour).Truncate(time.Hour)
	key := session.NewID(deadline).Key()
	return &Op{Key: key, Rec: session.Record{
		Key: key, Version: 7, Expires: time.Now().Add(time.Hour).Truncate(time.Microsecond), Deadline: deadline, User: user, Data: []byte("data"),
	}}
}

// Each kind of write, one after the other, on one session.
func TestWritesNeedNoStore(t *testing.T) {
	t.Parallel()
	w := open(t)
	ctx := t.Context()
	made := creation("ada")
	if err := w.Creates.Do(ctx, made); err != nil || made.Rec.Created.IsZero() {
		t.Fatalf("create: %v, at %v", err, made.Rec.Created)
	}
	if err := w.Creates.Do(ctx, &Op{Key: made.Key, Rec: made.Rec}); !errors.Is(err, session.ErrExists) {
		t.Errorf("create again: %v", err)
	}
	if did, err := w.Created(ctx, made.Key, &made.Rec); !did || err != nil {
		t.Errorf("Created: %v, %v", did, err)
	}
	saved := &Op{Key: made.Key, Rec: made.Rec, Becomes: 9}
	if err := w.Saves.Do(ctx, saved); err != nil || saved.Rec.Version != 9 {
		t.Errorf("save: %v, version %d", err, saved.Rec.Version)
	}
	if err := w.Saves.Do(ctx, &Op{Key: made.Key, Rec: made.Rec, Becomes: 10}); !errors.Is(err, session.ErrConflict) {
		t.Errorf("save of what was read before: %v", err)
	}
	further := saved.Rec.Expires.Add(time.Hour)
	touched := &Op{Key: made.Key, Rec: session.Record{Expires: further}}
	if err := w.Touches.Do(ctx, touched); err != nil || !touched.Rec.Expires.Equal(further) {
		t.Errorf("touch: %v, %v", touched.Rec.Expires, err)
	}
	ended := &Op{Key: made.Key}
	if err := w.Destroys.Do(ctx, ended); err != nil || !ended.Live {
		t.Errorf("destroy: live %v, %v", ended.Live, err)
	}
	if was, err := w.Look(ctx, made.Key); err != nil || was.Live || was.Version != 9 {
		t.Errorf("it is %+v, %v", was, err)
	}
	if err := w.Touches.Do(ctx, &Op{Key: made.Key, Rec: session.Record{Expires: further}}); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("touch of what was ended: %v", err)
	}
}

// The step after a failure depends on the outcome, on how many ops there are, on
// what was tried before, and on whether an answer was lost.
func TestTheOutcomeDecidesTheNextStep(t *testing.T) {
	t.Parallel()
	disowned, stale := 0, 0
	w := &Writer{opts: Options{Disown: func() { disowned++ }, Stale: func() { stale++ }}}
	l := &Lane{w: w}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	lost := io.ErrUnexpectedEOF
	for name, c := range map[string]struct {
		err    error
		n      int // ops
		before error
		mode   flushMode
		ctx    context.Context
		want   step
		then   func(flushMode) bool
	}{
		"a lost answer":                 {err: lost, n: 2, want: tryAgain, then: func(m flushMode) bool { return m.road.OwnFirst }},
		"a conflict":                    {err: serverError("40P01"), n: 2, want: tryAgain},
		"the server is full":            {err: serverError("53100"), n: 2, want: giveUp},
		"and an answer was lost before": {err: serverError("53100"), n: 2, before: lost, want: tryAgain},
		"the partition is gone":         {err: serverError("42P01"), n: 2, want: tryAgain, then: func(m flushMode) bool { return m.parent }},
		"the parent is":                 {err: serverError("42P01"), n: 2, mode: flushMode{parent: true}, want: giveUp},
		"no partition":                  {err: serverError("23514"), n: 1, want: tryAgain, then: func(m flushMode) bool { return m.parent }},
		"nor by the parent":             {err: serverError("23514"), n: 1, mode: flushMode{parent: true}, want: giveUp},
		"for one of two":                {err: serverError("23514"), n: 2, mode: flushMode{parent: true}, want: tryHalves},
		"a row is locked": {err: serverError("55P03"), n: 2, want: tryAtOnce,
			then: func(m flushMode) bool { return m.patience == skipLocked }},
		"and stays so":           {err: serverError("55P03"), n: 2, mode: flushMode{patience: waitLocked}, want: leaveHeld},
		"until time is up":       {err: serverError("55P03"), n: 2, mode: flushMode{patience: waitLocked}, ctx: ended, want: giveUp},
		"something in the batch": {err: serverError("22021"), n: 2, want: tryHalves},
		"and it is this":         {err: serverError("22021"), n: 1, before: lost, want: giveUp},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			var ops []*Op
			for range c.n {
				ops = append(ops, &Op{lost: c.before})
			}
			was := c.mode
			next, mode, err := l.afterFailure(ctx, ops, c.mode, c.err)
			if next != c.want || !errors.Is(err, c.err) {
				t.Errorf("step %d, %v; want %d", next, err, c.want)
			}
			switch {
			case c.then != nil && !c.then(mode):
				t.Errorf("the mode is %+v", mode)
			case c.then == nil && mode != was:
				t.Errorf("the mode has changed from %+v to %+v", was, mode)
			}
			if unanswered := slices.ContainsFunc(ops, func(o *Op) bool { return o.lost != nil }); unanswered != (c.before != nil || c.err == lost) {
				t.Errorf("an answer was lost: %v", unanswered)
			}
		})
	}
	if disowned != 1 || stale != 5 {
		t.Errorf("disowned %d times, stale %d times; want 1 and 5", disowned, stale)
	}
}

func TestALostAnswerIsJudgedByWhatLanded(t *testing.T) {
	t.Parallel()
	says := func(did bool, err error) func(context.Context) (bool, error) {
		return func(context.Context) (bool, error) { return did, err }
	}
	for name, c := range map[string]struct {
		err    error
		landed func(context.Context) (bool, error)
		want   verdict
	}{
		"it happened":                         {session.ErrConflict, says(true, nil), happened},
		"it did not, and others came first":   {session.ErrConflict, says(false, nil), refused},
		"what came later hides it":            {session.ErrConflict, says(false, session.ErrUnknown), undecidable},
		"nobody can tell":                     {session.ErrConflict, nil, undecidable},
		"the database does not answer":        {session.ErrConflict, says(false, io.EOF), undecided},
		"the last attempt failed":             {io.EOF, says(false, nil), undecided},
		"the last attempt failed, nobody can": {io.EOF, nil, undecided},
	} {
		if got := afterLost(t.Context(), c.err, c.landed); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestSpansAreCutByPartition(t *testing.T) {
	t.Parallel()
	parent, one, two := &Texts{}, &Texts{}, &Texts{}
	w := &Writer{parent: parent, opts: Options{Find: func(bucket int32) (*Texts, int64) {
		switch {
		case bucket < 10:
			return one, 10
		case bucket >= 20:
			return two, 30
		}
		return nil, 0
	}}}
	var ops []*Op
	for _, bucket := range []int32{1, 9, 10, 15, 19, 20, 29} {
		ops = append(ops, &Op{Key: session.Key{Bucket: bucket}})
	}
	got := w.spans(ops, flushMode{})
	if len(got) != 3 || got[0].q != one || got[1].q != parent || got[2].q != two || len(got[0].ops) != 2 || len(got[1].ops) != 3 || len(got[2].ops) != 2 {
		t.Errorf("spans: %v", got)
	}
	if got = w.spans(ops, flushMode{parent: true}); len(got) != 1 || got[0].q != parent || len(got[0].ops) != len(ops) {
		t.Errorf("by the parent: %v", got)
	}
}
