package sessiontest

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

func saveCases() []testCase {
	return []testCase{
		{name: "save writes data", run: saveWrites},
		{name: "nobody can foresee a version", run: saveUnforeseen},
		{name: "save refuses another version", run: saveStale},
		{name: "save changes neither creation time nor deadline", run: saveKeepsTimes},
		{name: "save refuses another user", run: saveUser},
		{name: "save moves the expiry both ways up to the deadline", run: saveExpires},
		{name: "save with an expiry that has passed ends the session", run: saveEnds},
		{name: "of concurrent saves of one version one wins", run: saveConcurrently},
	}
}

func saveWrites(e *env) {
	rec := e.create(e.recordOf(e.unique("user")))
	for i, data := range [][]byte{[]byte("text"), nil, {}, {0, 0xff, 0xfe}, bytes.Repeat([]byte{0xff}, e.h.MaxData), []byte("short")} {
		rec.Data = data
		store := e.node(i)
		got, err := store.Save(e.ctx, rec)
		if err != nil {
			e.Fatalf("Save: %v", err)
		}
		rec.Version = e.newer("Save", got, rec.Version)
		e.same("Save", got, rec)
		fetched, err := fresh(e.ctx, e.s, rec.Key)
		if err != nil {
			e.Fatalf("Get: %v", err)
		}
		e.same("Get", fetched, rec)
	}
}

// saveUnforeseen: what a crash undoes may have been read by other nodes, so a
// version that is given again afterwards must not be the same.
func saveUnforeseen(e *env) {
	const sessions = 32
	steps := map[string]map[int64]bool{} // by the kind of write
	note := func(what string, rec session.Record, was int64) session.Record {
		if was != 0 {
			e.newer(what, rec, was)
		}
		if steps[what] == nil {
			steps[what] = map[int64]bool{}
		}
		steps[what][rec.Version-was] = true
		return rec
	}
	for range sessions {
		rec := note("Create", e.create(e.record()), 0)
		rec = note("Save", e.save(rec), rec.Version)
		rec = note("Renew", e.renew(rec, 0), rec.Version)
		if has(e.s, Putter) {
			rec = note("Put", e.put(rec), rec.Version)
			note("Put of a new session", e.put(e.foreign()), 0)
		}
	}
	for what, different := range steps {
		if len(different) < sessions-1 {
			e.Errorf("%d times %s made %d different steps; want about as many", sessions, what, len(different))
		}
	}
}

func saveStale(e *env) {
	first := e.create(e.record())
	second := e.save(first)
	rec := e.save(second)
	for _, version := range []int64{first.Version, second.Version, rec.Version - 1, rec.Version + 1, 0, -1, 1 << 40, -1 << 63, 1<<63 - 1} {
		stale := rec
		stale.Version, stale.Data = version, []byte("stale")
		_, err := e.s.Save(e.ctx, stale)
		e.refused(fmt.Sprintf("Save of version %d", version), err, session.ErrConflict)
		stale.Expires = e.now().Add(-time.Minute)
		_, err = e.s.Save(e.ctx, stale)
		e.refused(fmt.Sprintf("ending Save of version %d", version), err, session.ErrConflict)
		_, err = e.peer().Save(e.ctx, stale)
		e.refused(fmt.Sprintf("Save of version %d by the other node", version), err, session.ErrConflict)
	}
	e.same("Get", e.live(rec.Key), rec)
}

func saveKeepsTimes(e *env) {
	rec := e.create(e.record())
	for _, d := range []time.Duration{-time.Hour, -24 * time.Hour, time.Hour, e.h.Longest * 2} {
		change := rec
		change.Deadline, change.Created = rec.Deadline.Add(d), rec.Created.Add(d)
		got := e.save(change)
		rec.Version = e.newer("Save", got, rec.Version)
		e.same("Save", got, rec)
		e.same("Get", e.live(rec.Key), rec)
	}
	change := rec
	change.Deadline, change.Created, change.Expires = time.Time{}, time.Time{}, time.Time{}
	got := e.save(change)
	rec.Version = e.newer("Save", got, rec.Version)
	e.same("Save without times", got, rec)
	e.same("Get", e.live(rec.Key), rec)
}

func saveUser(e *env) {
	for _, c := range [][2]string{{"", "alice"}, {"alice", "bob"}, {"alice", ""}, {"alice", "Alice"}, {"alice", "alice "}} {
		rec := e.create(e.recordOf(c[0]))
		change := rec
		change.User, change.Data = c[1], []byte("changed")
		_, err := e.s.Save(e.ctx, change)
		e.refused(fmt.Sprintf("Save of %q's session for %q", c[0], c[1]), err, session.ErrUserChanged)
		e.same("Get", e.live(rec.Key), rec)
	}
}

func saveExpires(e *env) {
	rec := e.record()
	rec.Expires = rec.Deadline.Add(-time.Hour)
	rec = e.create(rec)
	for _, c := range []struct {
		name           string
		expires, wants time.Time
	}{
		{"none", time.Time{}, rec.Expires},
		{"an earlier one", rec.Expires.Add(-30 * time.Minute), rec.Expires.Add(-30 * time.Minute)},
		{"none after an earlier one", time.Time{}, rec.Expires.Add(-30 * time.Minute)},
		{"a later one", rec.Deadline.Add(-time.Minute), rec.Deadline.Add(-time.Minute)},
		{"the deadline", rec.Deadline, rec.Deadline},
		{"one just after the deadline", rec.Deadline.Add(time.Second), rec.Deadline},
		{"one in another zone", rec.Deadline.Add(-time.Second).In(time.FixedZone("", -7200)), rec.Deadline.Add(-time.Second)},
		{"one far after the deadline", rec.Deadline.Add(1e6 * time.Hour), rec.Deadline},
	} {
		rec.Expires = c.expires
		got := e.save(rec)
		rec.Version = e.newer("Save", got, rec.Version)
		rec.Expires = c.wants
		e.same("Save with "+c.name, got, rec)
		e.same("Get after Save with "+c.name, e.live(rec.Key), rec)
	}
}

func saveEnds(e *env) {
	for _, expires := range []time.Time{e.now().Add(-time.Nanosecond), e.now().Add(-time.Hour), time.Unix(0, 0), time.Unix(-1<<36, 0)} {
		rec := e.create(e.recordOf(e.unique("user")))
		ended := rec
		ended.Expires = expires
		got := e.save(ended)
		if got.Key != rec.Key {
			e.Errorf("Save returned %v; want %v", got.Key, rec.Key)
		}
		e.neverLive(rec.Key, "a session that a save ended")
		rec.Version = e.newer("Save", got, rec.Version)
		_, err := e.s.Save(e.ctx, rec)
		e.refused("Save of the version after the end", err, session.ErrNotFound)
		_, err = e.s.Create(e.ctx, rec)
		e.refused("Create", err, session.ErrExists)
		e.gone(rec.Key)
	}
}

func saveConcurrently(e *env) {
	const rivals = 8
	for _, rec := range []session.Record{e.record(), e.foreign()} {
		rec = e.create(rec)
		for range rounds.Of(25) {
			var wg sync.WaitGroup
			errs := make([]error, rivals)
			for i := range rivals {
				store := e.node(i)
				mine := rec
				mine.Data = fmt.Append(nil, i)
				wg.Go(func() { _, errs[i] = store.Save(e.ctx, mine) })
			}
			wg.Wait()
			winner := e.onlyWinner("Save", errs, session.ErrConflict)
			got, err := fresh(e.ctx, e.s, rec.Key)
			if err != nil {
				e.Fatalf("Get: %v", err)
			}
			rec.Version = e.newer("Save", got, rec.Version)
			rec.Data = fmt.Append(nil, winner)
			e.same("Get", got, rec)
		}
	}
}

// onlyWinner returns the one whose call succeeded; the others must have been
// refused as lost says.
func (e *env) onlyWinner(what string, errs []error, lost ...error) int {
	e.Helper()
	winner := -1
	for i, err := range errs {
		switch {
		case err != nil:
			e.refused(what, err, lost...)
		case winner >= 0:
			e.Errorf("%s: both %d and %d succeeded", what, winner, i)
		default:
			winner = i
		}
	}
	if winner < 0 {
		e.Fatalf("%s: nobody succeeded: %v", what, errs)
	}
	return winner
}
