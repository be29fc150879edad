package sessiontest

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

func putCases() []testCase {
	cases := []testCase{
		{name: "put creates a session", run: putCreates},
		{name: "put without a deadline creates a session for as long as its key allows", run: putWithoutDeadline},
		{name: "put replaces a session", run: putReplaces},
		{name: "put moves the expiry both ways up to the deadline", run: putExpires},
		{name: "put with an expiry that has passed ends the session", run: putEnds},
		{name: "put refuses another user", run: putUser},
		{name: "put refuses a new session's deadline out of range", run: putOutOfRange},
		{name: "concurrent puts make one session", run: putConcurrently},
		{name: "a put and a create make one session", run: putAgainstCreate},
		{name: "a put counts as a save", run: putAgainstSave},
		{name: "a put does not outrun a destroy", run: putAgainstDestroy},
	}
	for i := range cases {
		cases[i].needs = Putter
	}
	return cases
}

// putWithoutDeadline tries the key of an ID, which tells the hour of its deadline,
// and one that does not.
func putWithoutDeadline(e *env) {
	own, foreign := e.record(), e.foreign()
	end := session.Record{Deadline: time.Unix(int64(own.Key.Bucket)*3600, 0).UTC()}
	own.Deadline, foreign.Deadline = time.Time{}, time.Time{}
	got := e.put(own)
	if !got.Deadline.Equal(end.Deadline) || !got.Expires.Equal(end.Deadline) {
		e.Errorf("the key of an ID: deadline %v, expiry %v; want %v, when its bucket ends", got.Deadline, got.Expires, end.Deadline)
	}
	e.same("Get", e.live(own.Key), got)
	got = e.put(foreign)
	if off := got.Deadline.Sub(e.now().Add(e.h.Longest)).Abs(); off > time.Minute {
		e.Errorf("another key: deadline %v, which is not the longest lifetime by %v", got.Deadline, off)
	}
	// A bucket that has passed allows nothing.
	own.Key = session.NewID(e.now().Add(-2 * time.Hour)).Key()
	_, err := e.s.(session.Putter).Put(e.ctx, own)
	e.refused("Put with the key of an hour that has passed", err, session.ErrDeadline)
}

func (e *env) put(rec session.Record) session.Record {
	e.Helper()
	got, err := e.s.(session.Putter).Put(e.ctx, rec)
	if err != nil {
		e.Fatalf("Put: %v", err)
	}
	return got
}

func putCreates(e *env) {
	for _, rec := range []session.Record{e.foreign(), e.record()} {
		rec.User, rec.Version = e.unique("user"), 7
		got := e.put(rec)
		rec.Version, rec.Expires = e.newer("Put", got, 0), rec.Deadline
		e.same("Put", got, rec)
		if age := e.now().Sub(got.Created).Abs(); age > time.Minute {
			e.Errorf("Created is %v, %v from now", got.Created, age)
		}
		e.same("Get", e.live(rec.Key), got)
		byPeer, err := fresh(e.ctx, e.peer(), rec.Key)
		if err != nil {
			e.Fatalf("Get by the other node: %v", err)
		}
		e.same("Get by the other node", byPeer, got)
		_, err = e.s.Create(e.ctx, rec)
		e.refused("Create", err, session.ErrExists)
	}

	forever := e.foreign()
	forever.Deadline, forever.Data = time.Time{}, nil
	got := e.put(forever)
	if d := got.Deadline.Sub(e.now().Add(e.h.Longest)).Abs(); d > time.Minute {
		e.Errorf("without one, Deadline is %v, %v from the longest lifetime", got.Deadline, d)
	}
	e.sameTime("Expires", got.Expires, got.Deadline)
	e.same("Get", e.live(forever.Key), got)

	capped := e.foreign()
	capped.Expires = capped.Deadline.Add(1000 * time.Hour)
	got = e.put(capped)
	e.sameTime("Expires after the deadline", got.Expires, got.Deadline)
	e.same("Get", e.live(capped.Key), got)
}

func putReplaces(e *env) {
	for _, rec := range []session.Record{e.foreign(), e.record()} {
		rec.User, rec.Expires = e.unique("user"), rec.Deadline.Add(-time.Hour)
		rec = e.create(rec)
		for i, deadline := range []time.Time{{}, rec.Deadline, rec.Deadline.Add(-5 * time.Hour), e.now().Add(9 * e.h.Longest)} {
			rec.Data = fmt.Append(nil, "put ", i)
			got := e.put(session.Record{Key: rec.Key, Version: int64(10 - i), Created: e.now().Add(-time.Hour), Deadline: deadline, Data: rec.Data})
			rec.Version = e.newer("Put", got, rec.Version)
			e.same("Put", got, rec)
			e.same("Get", e.live(rec.Key), rec)
		}
		rec.Data = nil
		got := e.put(session.Record{Key: rec.Key, User: rec.User})
		rec.Version = e.newer("Put", got, rec.Version)
		e.same("Put without data", got, rec)
	}
}

func putExpires(e *env) {
	rec := e.foreign()
	rec.Expires = rec.Deadline.Add(-time.Hour)
	rec = e.create(rec)
	for _, c := range [][2]time.Time{
		{{}, rec.Expires},
		{rec.Expires.Add(-30 * time.Minute), rec.Expires.Add(-30 * time.Minute)},
		{rec.Expires.Add(time.Minute), rec.Expires.Add(time.Minute)},
		{{}, rec.Expires.Add(time.Minute)},
		{rec.Deadline.Add(time.Hour), rec.Deadline},
		{time.Unix(1<<60, 0), rec.Deadline},
	} {
		put := rec
		put.Expires = c[0]
		got := e.put(put)
		rec.Version = e.newer("Put", got, rec.Version)
		rec.Expires = c[1]
		e.same("Put", got, rec)
		e.same("Get", e.live(rec.Key), rec)
	}
}

func putEnds(e *env) {
	for _, expires := range []time.Time{e.now().Add(-time.Second), e.now().Add(-1000 * time.Hour), time.Unix(0, 0)} {
		rec := e.create(e.foreign())
		ended := rec
		ended.Expires = expires
		e.newer("a Put that ends the session", e.put(ended), rec.Version)
		e.neverLive(rec.Key, "a session that a put ended")
		_, err := e.s.(session.Putter).Put(e.ctx, rec)
		e.refused("Put after that", err, session.ErrNotFound)
		e.gone(rec.Key)

		// There is nothing to end, and the key is as good as before.
		unused := e.foreign()
		ended = unused
		ended.Expires = expires
		_, err = e.s.(session.Putter).Put(e.ctx, ended)
		e.refused("Put of a new session that has expired", err, session.ErrDeadline)
		e.gone(unused.Key)
		e.same("Get", e.live(e.put(unused).Key), e.live(unused.Key))
	}
}

func putUser(e *env) {
	for _, c := range []struct {
		of, by  string
		refused bool
	}{
		{"alice", "", false}, {"alice", "alice", false}, {"", "", false},
		{"alice", "bob", true}, {"", "bob", true}, {"alice", "Alice", true}, {"alice", "alice ", true},
	} {
		rec := e.foreign()
		rec.User = c.of
		rec = e.create(rec)
		put := rec
		put.User, put.Data = c.by, []byte("changed")
		got, err := e.s.(session.Putter).Put(e.ctx, put)
		if c.refused {
			e.refused(fmt.Sprintf("Put to %q's session by %q", c.of, c.by), err, session.ErrUserChanged)
		} else {
			rec.Data = put.Data
			if err != nil {
				e.Fatalf("Put to %q's session by %q: %v", c.of, c.by, err)
			}
			rec.Version = e.newer("Put", got, rec.Version)
			e.same("Put", got, rec)
		}
		e.same("Get", e.live(rec.Key), rec)
	}
}

func putOutOfRange(e *env) {
	for _, deadline := range []time.Time{
		e.now().Add(-time.Hour), e.now().Add(e.h.Longest + 2*time.Hour), time.Unix(1<<60, 0), time.Unix(-1e9, 0),
	} {
		for _, rec := range []session.Record{e.recordUntil(deadline), e.foreign()} {
			rec.Deadline = deadline
			_, err := e.s.(session.Putter).Put(e.ctx, rec)
			e.refused(fmt.Sprintf("Put until %v", deadline), err, session.ErrDeadline)
			e.gone(rec.Key)
		}
	}
}

func putConcurrently(e *env) {
	const rivals = 8
	for range rounds.Of(15) {
		rec := e.foreign()
		var wg sync.WaitGroup
		var put [rivals]session.Record
		for i := range rivals {
			store := e.node(i)
			mine := rec
			mine.Data = fmt.Append(nil, i)
			mine.Deadline = rec.Deadline.Add(time.Duration(i) * time.Hour) // so that it may be put somewhere else
			wg.Go(func() {
				var err error
				if put[i], err = store.(session.Putter).Put(e.ctx, mine); err != nil {
					e.Errorf("Put: %v", err)
				}
			})
		}
		wg.Wait()
		got, err := fresh(e.ctx, e.s, rec.Key)
		if err != nil {
			e.Fatalf("Get: %v", err)
		}
		last := slices.MaxFunc(put[:], func(a, b session.Record) int { return cmp.Compare(a.Version, b.Version) })
		e.same("Get", got, last)
		for i, a := range put {
			for _, b := range put[:i] {
				if a.Version == b.Version {
					e.Errorf("two puts gave it version %d", a.Version)
				}
			}
		}
		e.destroy(1, rec.Key)
		e.gone(rec.Key)
	}
}

func putAgainstCreate(e *env) {
	e.peer()
	for range rounds.Of(25) {
		rec := e.foreign()
		later := rec
		later.Deadline = rec.Deadline.Add(5 * time.Hour)
		var wg sync.WaitGroup
		var first, last session.Record
		var created, put error
		wg.Go(func() { first, created = e.s.Create(e.ctx, rec) })
		wg.Go(func() { last, put = e.peer().(session.Putter).Put(e.ctx, later) })
		wg.Wait()
		if put != nil {
			e.Errorf("Put: %v", put)
		}
		if created != nil {
			e.refused("Create", created, session.ErrExists)
		}
		e.newer("Put", last, first.Version)
		got, err := fresh(e.ctx, e.s, rec.Key)
		if err != nil {
			e.Fatalf("Get: %v", err)
		}
		e.same("Get", got, last)
		e.destroy(1, rec.Key)
		e.gone(rec.Key)
	}
}

func putAgainstSave(e *env) {
	e.peer()
	for range rounds.Of(25) {
		rec := e.create(e.foreign())
		saved, put := rec, rec
		saved.Data, put.Data = []byte("saved"), []byte("put")
		var wg sync.WaitGroup
		var saveErr, putErr error
		wg.Go(func() { saved, saveErr = e.s.Save(e.ctx, saved) })
		wg.Go(func() { put, putErr = e.peer().(session.Putter).Put(e.ctx, put) })
		wg.Wait()
		if putErr != nil {
			e.Fatalf("Put: %v", putErr)
		}
		if e.newer("Put", put, rec.Version); saveErr != nil {
			e.refused("Save", saveErr, session.ErrConflict)
		} else {
			e.newer("Put", put, saved.Version) // the save was first
		}
		got, err := fresh(e.ctx, e.s, rec.Key)
		if err != nil {
			e.Fatalf("Get: %v", err)
		}
		e.same("Get", got, put)
	}
}

func putAgainstDestroy(e *env) {
	e.peer()
	for range rounds.Of(50) {
		rec := e.create(e.foreign())
		var wg sync.WaitGroup
		var put, destroyed error
		var n int64
		wg.Go(func() { _, put = e.s.(session.Putter).Put(e.ctx, rec) })
		wg.Go(func() { n, destroyed = e.peer().Destroy(e.ctx, rec.Key) })
		wg.Wait()
		if put != nil {
			e.refused("Put", put, session.ErrNotFound)
		}
		if n != 1 || destroyed != nil {
			e.Errorf("Destroy = %d, %v; want 1, nil", n, destroyed)
		}
		e.eventuallyGone(rec.Key)
	}
}
