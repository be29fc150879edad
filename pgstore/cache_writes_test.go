package pgstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

// What a node has written itself it serves from its memory, and nothing older.
func TestANodeServesWhatItHasWritten(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	j, tracer := p.journaled(t)
	a, b := p.cached(t, Options{}, tracer), p.cached(t, Options{})
	rec := create(t, a, "ada")
	for i := range 20 {
		if i == 10 { // another node writes in between
			saved(t, b, rec, "of another node")
			dbtest.Eventually(t, "it is heard of", func() bool { return mustGet(t, a, rec.Key).Version > rec.Version })
			rec = mustGet(t, a, rec.Key)
		}
		rec.Expires = rec.Expires.Add(time.Duration(i%3-1) * time.Minute)
		rec = saved(t, a, rec, fmt.Sprint("data ", i))
		var got session.Record
		if asked := j.during(func() { got = mustGet(t, a, rec.Key) }); len(asked) != 0 {
			t.Errorf("after save %d it asked %q", i, asked)
		}
		if got.Version != rec.Version || string(got.Data) != string(rec.Data) || !got.Expires.Equal(rec.Expires) || got.Key != rec.Key {
			t.Errorf("after save %d Get = %+v, want %+v", i, got, rec)
		}
	}
	old, next := rec, fresh(a, "ada")
	next.Version = rec.Version
	next, err := a.Renew(t.Context(), rec.Key, next, 0)
	if err != nil {
		t.Fatal(err)
	}
	if asked := j.during(func() { mustGet(t, a, next.Key) }); len(asked) != 0 {
		t.Errorf("after a renewal it asked %q", asked)
	}
	refusesNow(t, "the renewed session", a, old.Key)
	later := next.Expires.Add(time.Hour)
	if _, err := a.Touch(t.Context(), next.Key, later); err != nil {
		t.Fatal(err)
	}
	asked := j.during(func() {
		if got := mustGet(t, a, next.Key); !got.Expires.Equal(later) {
			t.Errorf("after a touch it expires %v, want %v", got.Expires, later)
		}
	})
	if len(asked) != 0 {
		t.Errorf("after a touch it asked %q", asked)
	}
}

// Who asks a node sees nothing older than what a Save on that node has returned
// before, however many read and write.
func TestReadersSeeWhatTheirNodeHasSaved(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	a, b := p.cached(t, Options{}), p.cached(t, Options{})
	rec := create(t, a, "ada")
	key := rec.Key
	var acknowledged atomic.Int64
	done := make(chan struct{})
	var readers sync.WaitGroup
	for _, s := range []*Store{a, a, b, b} {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				least := acknowledged.Load()
				got, err := s.Get(t.Context(), key)
				if err != nil || s == a && got.Version < least {
					t.Errorf("Get = version %d, %v after version %d", got.Version, err, least)
					return
				}
			}
		})
	}
	for i := range rounds.Of(300) {
		var err error
		if rec, err = a.Save(t.Context(), rec); err != nil {
			t.Errorf("save %d: %v", i, err)
			break
		}
		acknowledged.Store(rec.Version)
	}
	close(done)
	readers.Wait()
	dbtest.Eventually(t, "the other node is as far", func() bool { return mustGet(t, b, key).Version == rec.Version })
}

// An old row that is on its way while this node saves comes too late.
func TestAReadThatASaveOvertakesIsNotKept(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	j, tracer := p.journaled(t)
	ws, mod := wired(t)
	a := p.cached(t, Options{}, mod, tracer)
	saved(t, a, create(t, a, ""), "so that the statements are known")
	rec := create(t, a, "ada")
	if _, err := a.GetFresh(t.Context(), rec.Key); err != nil {
		t.Fatal(err)
	}
	a.cache.Invalidate(rec.Key)
	answered, release := ws.answer(mentions(rec.Key))
	read := async(func() error { _, err := a.Get(context.Background(), rec.Key); return err })
	<-answered
	rec = saved(t, a, rec, "new")
	release()
	wantErr(t, "the read that had begun", <-read, nil)
	asked := j.during(func() {
		if got := mustGet(t, a, rec.Key); got.Version != rec.Version {
			t.Errorf("Get = version %d, want %d", got.Version, rec.Version)
		}
	})
	if len(asked) != 0 {
		t.Errorf("the value that was saved is forgotten: %q", asked)
	}
}

// A write that is refused shows that what this node remembers is out of date,
// even if it cannot hear of it.
func TestARefusedWriteMakesTheNodeAskAgain(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	a := p.cached(t, Options{})
	j, tracer := p.journaled(t)
	b, listening, _ := p.split(t, Options{}, tracer)
	save := func(rec session.Record) error { _, err := b.Save(t.Context(), rec); return err }
	put := func(rec session.Record) error { _, err := b.Put(t.Context(), rec); return err }
	touch := func(rec session.Record) error {
		_, err := b.Touch(t.Context(), rec.Key, rec.Expires.Add(time.Hour))
		return err
	}
	renew := func(rec session.Record) error {
		next := fresh(b, rec.User)
		next.Version = rec.Version
		_, err := b.Renew(t.Context(), rec.Key, next, 0)
		return err
	}
	change := func(rec session.Record) { saved(t, a, rec, "changed") }
	end := func(rec session.Record) { destroyed(t, a, rec.Key) }
	other := func(do func(session.Record) error) func(session.Record) error {
		return func(rec session.Record) error { rec.User = "eve"; return do(rec) }
	}
	cases := []struct {
		name      string
		meanwhile func(session.Record)
		do        func(session.Record) error
		want      error
	}{
		{"Save in vain", change, save, session.ErrConflict},
		{"Renew in vain", change, renew, session.ErrConflict},
		{"Save as another user", change, other(save), session.ErrUserChanged},
		{"Put as another user", change, other(put), session.ErrUserChanged},
		{"Save of a dead session", end, save, session.ErrNotFound},
		{"Touch of a dead session", end, touch, session.ErrNotFound},
		{"Renew of a dead session", end, renew, session.ErrNotFound},
		{"Put of a dead session", end, put, session.ErrNotFound},
	}
	recs := make([]session.Record, len(cases))
	for i := range cases {
		recs[i] = create(t, a, "ada")
		warm(t, recs[i].Key, b)
	}
	listening.SetMode(faultproxy.ToClient, faultproxy.Stall())
	for i, c := range cases {
		rec := recs[i]
		c.meanwhile(rec)
		if asked := j.during(func() { mustGet(t, b, rec.Key) }); len(asked) != 0 {
			t.Fatalf("%s: it has heard of the change: %q", c.name, asked)
		}
		wantErr(t, c.name, c.do(rec), c.want)
		var got session.Record
		var err error
		asked := j.during(func() { got, err = b.Get(t.Context(), rec.Key) })
		if len(asked) != 1 {
			t.Errorf("%s: the next Get asked %d times", c.name, len(asked))
		}
		if live := rowOf(t, p, rec.Key).Live; live && (err != nil || got.Version <= rec.Version) || !live && !isNotFound(err) {
			t.Errorf("%s: Get = version %d, %v", c.name, got.Version, err)
		}
	}
	if !isLeased(b) {
		t.Error("the lease is gone")
	}
}

// A write whose outcome this node never learns may happen long afterwards. Then
// it is like that of another node.
func TestAnUnknownWriteThatHappensLateIsHeardOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(ctx context.Context, s *Store, rec session.Record) error
		want after
	}{
		"Save": {func(ctx context.Context, s *Store, rec session.Record) error {
			rec.Data = []byte("late")
			_, err := s.Save(ctx, rec)
			return err
		}, after{data: "late"}},
		"Save that ends the session": {func(ctx context.Context, s *Store, rec session.Record) error {
			rec.Expires = s.Now().Add(-time.Hour)
			_, err := s.Save(ctx, rec)
			return err
		}, after{}},
		"Destroy": {func(ctx context.Context, s *Store, rec session.Record) error {
			_, err := s.Destroy(ctx, rec.Key)
			return err
		}, after{}},
		"DestroyUser": {func(ctx context.Context, s *Store, rec session.Record) error {
			_, err := s.DestroyUser(ctx, rec.User)
			return err
		}, after{}},
		"Clear": {func(ctx context.Context, s *Store, _ session.Record) error {
			_, err := s.Clear(ctx)
			return err
		}, after{}},
		"Renew": {func(ctx context.Context, s *Store, rec session.Record) error {
			next := fresh(s, rec.User)
			next.Version = rec.Version
			_, err := s.Renew(ctx, rec.Key, next, 0)
			return err
		}, after{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := leasing(t, lasting60)
			j, tracer := p.journaled(t)
			ws, mod := wired(t)
			a := p.cached(t, Options{WriteTimeout: 3 * time.Second}, mod, tracer)
			if err := c.do(t.Context(), a, create(t, a, "bob")); err != nil { // its connections know the statements
				t.Fatal(err)
			}
			deadline := a.Now().Add(time.Hour) // in the partition that Clear begins with
			rec := fresh(a, "ada")
			rec.Key, rec.Deadline = session.NewID(deadline).Key(), deadline
			rec, err := a.Create(t.Context(), rec)
			if err != nil {
				t.Fatal(err)
			}
			taken, deliver := ws.request(slowRequest, commits)
			for range 20 { // and what repeats it is lost
				ws.set(lostRequest, commits)
			}
			err = c.do(t.Context(), a, rec)
			<-taken
			ws.reset()
			wantErr(t, name, err, session.ErrUnknown)
			if asked := j.during(func() { mustGet(t, a, rec.Key) }); len(asked) == 0 {
				t.Error("the next Get asked nobody")
			}
			warm(t, rec.Key, a)
			if got := mustGet(t, a, rec.Key); got.Version != rec.Version {
				t.Errorf("Get = version %d before it has happened", got.Version)
			}
			deliver()
			if c.want != (after{}) {
				c.want.key = rec.Key
			}
			dbtest.Eventually(t, "what happened late is seen", func() bool { return c.want.met(a.Get(t.Context(), rec.Key)) })
		})
	}
}

// A request that seemed lost and was repeated may arrive after all, and end
// what was created since.
func TestALostRequestThatHappensLateIsHeardOf(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(ctx context.Context, s *Store, user string) error{
		"DestroyUser": func(ctx context.Context, s *Store, user string) error {
			_, err := s.DestroyUser(ctx, user)
			return err
		},
		"Clear": func(ctx context.Context, s *Store, _ string) error {
			_, err := s.Clear(ctx)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := leasing(t, lasting60)
			ws, mod := wired(t)
			a, b := p.cached(t, Options{}, mod), p.cached(t, Options{})
			create(t, a, "bob")
			if err := do(t.Context(), a, "bob"); err != nil { // its connections know the statements
				t.Fatal(err)
			}
			taken, deliver := ws.request(lostRequest, commits)
			if err := do(t.Context(), a, "ada"); err != nil {
				t.Fatal(err)
			}
			<-taken
			deadline := a.Now().Add(time.Hour) // in the partition that Clear begins with
			rec := fresh(a, "ada")
			rec.Key, rec.Deadline = session.NewID(deadline).Key(), deadline
			rec, err := a.Create(t.Context(), rec)
			if err != nil {
				t.Fatal(err)
			}
			warm(t, rec.Key, a, b)
			deliver()
			if isLive(t, p, rec.Key) {
				t.Fatal("the late request ended nothing")
			}
			for _, s := range []*Store{a, b} {
				awaitRefusal(t, "what has ended late", s, rec.Key)
			}
		})
	}
}
