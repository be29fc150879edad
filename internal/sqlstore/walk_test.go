package sqlstore

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

func TestAWalkEndsManySessionsInSteps(t *testing.T) {
	t.Parallel()
	e, db := newFake(t)
	for i := range 2*StepRows + 10 {
		r := db.add("ada")
		if i%10 == 0 {
			db.end(r)
		}
		if i%10 == 1 {
			r.Rec.Expires = noon
		}
	}
	others := db.add("eve")
	if n, err := e.DestroyUser(t.Context(), "ada"); err != nil || n != (2*StepRows+10)/10*8 {
		t.Errorf("DestroyUser = %d, %v", n, err)
	}
	if others := db.rows[others.Rec.Key.Hash]; !others.Ended.IsZero() {
		t.Error("DestroyUser has ended another user's session")
	}
	// Ended rows have no user.
	if len(db.works) != 2 || db.given["Page"] != StepRows || !db.works[0].Ends || db.works[0].Waits {
		t.Errorf("it took the transactions %+v", db.works)
	}
	db.works, db.did = nil, nil
	if n, err := e.Clear(t.Context()); n != 1 || err != nil || len(db.works) != 3 {
		t.Errorf("Clear = %d, %v, in %d transactions", n, err, len(db.works))
	}
	if want := []string{"page 0", "end 0", "page 500", "end 0", "page 1000", "end 1"}; !slices.Equal(db.did, want) {
		t.Errorf("Clear did %q, want %q", db.did, want)
	}
	if n := e.Stats().Destroys; n != (2*StepRows+10)/10*8+1 {
		t.Errorf("%d were counted", n)
	}
}

func TestAWalkSparesWhatItIsTold(t *testing.T) {
	t.Parallel()
	e, db := newFake(t)
	first, second, third := db.add("ada"), db.add("ada"), db.add("ada")
	wrong := session.Key{Hash: second.Rec.Key.Hash, Bucket: second.Rec.Key.Bucket + 1}
	byHash := session.Key{Hash: third.Rec.Key.Hash}
	if n, err := e.DestroyUser(t.Context(), "ada", first.Rec.Key, wrong, byHash); n != 1 || err != nil {
		t.Errorf("DestroyUser = %d, %v", n, err)
	}
	db.wantDead(t, "DestroyUser", second)
}

func TestAWalkSparesWhatExceptedKeysWereRenewedTo(t *testing.T) {
	t.Parallel()
	e, db := newFake(t)
	first, second := db.add("ada"), db.add("ada")
	next := db.renew(first, 0)
	db.renew(next, 0)
	if n, err := e.DestroyUser(t.Context(), "ada", first.Rec.Key); n != 1 || err != nil {
		t.Errorf("DestroyUser = %d, %v", n, err)
	}
	db.wantDead(t, "DestroyUser", first, next, second)
}

// A row that others hold is waited for with nothing else locked. Whatever it has
// become ends, and then the step is done again.
func TestAWalkFollowsWhatOthersHold(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		// meanwhile is what the others do with the row that they hold. It returns
		// what has to survive.
		meanwhile func(db *fake, held *sqlrow.Row) *sqlrow.Row
		want      int64
	}{
		"nothing":    {func(db *fake, held *sqlrow.Row) *sqlrow.Row { return nil }, 3},
		"they renew": {func(db *fake, held *sqlrow.Row) *sqlrow.Row { db.renew(held, 0); return nil }, 3},
		"they renew twice": {func(db *fake, held *sqlrow.Row) *sqlrow.Row {
			db.renew(db.renew(held, 0), 0)
			return nil
		}, 3},
		"they renew for another user": {func(db *fake, held *sqlrow.Row) *sqlrow.Row {
			next := db.renew(held, 0)
			next.Rec.User = "eve"
			return next
		}, 2},
		"they end it":    {func(db *fake, held *sqlrow.Row) *sqlrow.Row { db.end(held); return nil }, 2},
		"they remove it": {func(db *fake, held *sqlrow.Row) *sqlrow.Row { delete(db.rows, held.Rec.Key.Hash); return nil }, 2},
	} {
		e, db := newFake(t)
		db.add("ada")
		held := db.add("ada")
		db.add("ada")
		hash := held.Rec.Key.Hash
		db.held[hash] = true
		var survivor *sqlrow.Row
		db.before["lock"] = func() {
			if db.held[hash] {
				delete(db.held, hash)
				survivor = c.meanwhile(db, db.rows[hash])
			}
		}
		n, err := e.DestroyUser(t.Context(), "ada")
		if n != c.want || err != nil {
			t.Errorf("%s: DestroyUser = %d, %v; want %d", what, n, err, c.want)
		}
		for _, r := range db.rows {
			if survives := survivor != nil && survivor.ID == r.ID; r.Ended.IsZero() != survives {
				t.Errorf("%s: row %d has ended: %t", what, r.ID, !r.Ended.IsZero())
			}
		}
		var waits []bool
		for _, w := range db.works {
			waits = append(waits, w.Waits)
		}
		if !slices.Equal(waits, []bool{false, true, false}) || db.did[len(db.did)-2] != "page 0" {
			t.Errorf("%s: its transactions: %+v, %q", what, db.works, db.did)
		}
	}
}

// A row can be renewed between the look at the page and its lock. Its successor
// need not have a higher ID than the page.
func TestAWalkFollowsWhatIsRenewedUnderIt(t *testing.T) {
	t.Parallel()
	e, db := newFake(t)
	first := db.add("ada")
	db.add("ada")
	db.before["page"] = func() {
		if first.Next == nil {
			db.renew(db.rows[first.Rec.Key.Hash], 0)
		}
	}
	first = db.rows[first.Rec.Key.Hash]
	if n, err := e.Clear(t.Context()); n != 2 || err != nil {
		t.Errorf("Clear = %d, %v", n, err)
	}
	for _, r := range db.rows {
		if r.Ended.IsZero() {
			t.Errorf("row %d is left", r.ID)
		}
	}
}

func TestAWalkThatFailsTellsHowFarItCame(t *testing.T) {
	t.Parallel()
	e, db := newFake(t)
	for range StepRows + 10 {
		db.add("ada")
	}
	steps := 0
	db.before["page"] = func() {
		if steps++; steps == 2 {
			db.fails = errDisk
		}
	}
	n, err := e.Clear(t.Context())
	if wantErr(t, "Clear", err, errDisk); n != StepRows || e.Stats().Destroys != StepRows {
		t.Errorf("Clear = %d, and %d were counted", n, e.Stats().Destroys)
	}
}

func TestAWalkPausesBetweenItsSteps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, db := newFake(t)
		for range StepRows + 10 {
			db.add("ada")
		}
		e.Pause = func(took time.Duration) time.Duration { return took + time.Second }
		db.before["page"] = func() { time.Sleep(2 * time.Second) }
		began := time.Now()
		if n, err := e.Clear(t.Context()); n != StepRows+10 || err != nil {
			t.Errorf("Clear = %d, %v", n, err)
		}
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("it took %v: two steps of 2 s, and one pause", took)
		}
		for range StepRows + 10 {
			db.add("ada")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		n, err := e.Clear(ctx)
		wantErr(t, "Clear with too little time", err, context.DeadlineExceeded)
		if n != 0 { // of the first page, all were ended before
			t.Errorf("Clear = %d", n)
		}
	})
}

func TestListsAreReadInPages(t *testing.T) {
	t.Parallel()
	e, db := newFake(t)
	db.again = true // and what is read twice is told once
	want := 2*keysPerPage + 1
	for i := range want {
		db.add([]string{"ada", "eve"}[i%2])
	}
	db.end(db.add("ada"))
	keys := map[session.Key]bool{}
	for key, err := range e.Keys(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		keys[key] = true
	}
	n := 0
	for rec, err := range e.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; !keys[rec.Key] {
			t.Errorf("Keys has left out %v", rec.Key)
		}
	}
	if n != want || len(keys) != want {
		t.Errorf("All told %d, Keys %d; want %d", n, len(keys), want)
	}
	recs, err := e.ListUser(t.Context(), "eve", session.Record{}, keysPerPage+1)
	if err != nil || len(recs) != keysPerPage || !slices.IsSortedFunc(recs, func(a, b session.Record) int { return a.Created.Compare(b.Created) }) {
		t.Errorf("ListUser = %d, %v", len(recs), err)
	}
	if n, err := e.CountUser(t.Context(), "eve"); n != keysPerPage || err != nil {
		t.Errorf("CountUser = %d, %v", n, err)
	}
	if n, err := e.Len(t.Context()); n != int64(want) || err != nil {
		t.Errorf("Len = %d, %v", n, err)
	}
	for range e.All(t.Context()) {
		db.fails = errDisk // a page that has been read is told
		n--
		if n < want-sessionsPerPage/2 {
			break
		}
	}
	var got error
	for _, err := range e.Keys(t.Context()) {
		got = err
	}
	wantErr(t, "Keys", got, errDisk)
}

// passes is the table of a pass.
type passes struct {
	*fake
	dead    int64 // rows whose bucket has passed
	swept   int64
	emptied []int64
	retired []int64
	fails   error
	takes   time.Duration
	each    time.Duration // that a row takes
}

func (p *passes) Retire(_ context.Context, most int64) (int64, error) {
	time.Sleep(p.takes)
	n := min(most, p.dead)
	time.Sleep(time.Duration(n) * p.each)
	p.dead -= n
	p.retired = append(p.retired, n)
	return n, nil
}

func (p *passes) Extent(context.Context) (last, swept int64, err error) {
	return p.lastID, p.swept, nil
}

func (p *passes) Sweep(_ context.Context, after, ids int64) (first, emptied int64, err error) {
	time.Sleep(p.takes)
	for _, r := range p.sorted(func(r *sqlrow.Row) bool { return r.ID > after }, byID) {
		if first == 0 {
			first = r.ID
		}
		if row := p.rows[r.Rec.Key.Hash]; r.ID < first+ids && r.Ended.IsZero() && r.Rec.Expires.Before(noon) {
			p.end(row)
			emptied++
		}
	}
	p.emptied = append(p.emptied, first)
	return first, emptied, p.fails
}

func (p *passes) SetSwept(_ context.Context, to int64) error {
	p.swept = to
	return nil
}

func noPause(time.Duration, int64) time.Duration { return 0 }

// idle adds n sessions that have been idle for long.
func (db *fake) idle(n int) {
	for range n {
		db.add("ada").Rec.Expires = noon.Add(-time.Hour)
	}
}

func TestAPassDeletesAndSweepsInSteps(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		dead    int64
		retired []int64
	}{
		"nothing":           {0, []int64{0}},
		"less than a step":  {5, []int64{5}},
		"two steps":         {20, []int64{10, 10, 0}},
		"and a bit of one ": {21, []int64{10, 10, 1}},
	} {
		e, db := newFake(t)
		db.idle(25)
		db.add("ada")
		p := &passes{fake: db, dead: c.dead, swept: 3}
		done, err := e.Prune(t.Context(), Pass{Table: p, Rows: 10, Pause: noPause})
		if want := (session.Pruned{Rows: c.dead, Emptied: 25}); err != nil || done != want || e.Stats().Pruned != want {
			t.Errorf("%s: Prune = %+v, %v; %+v were counted", what, done, err, e.Stats().Pruned)
		}
		// A whole pass leaves alone how far the parts have come.
		if !slices.Equal(p.retired, c.retired) || !slices.Equal(p.emptied, []int64{1, 11, 21}) || p.swept != 3 {
			t.Errorf("%s: it deleted %d and looked at %d", what, p.retired, p.emptied)
		}
	}
}

// Passes in the background go round the table, by parts that depend on its size.
func TestPartsGoRoundTheTable(t *testing.T) {
	t.Parallel()
	e, db := newFake(t)
	db.idle(450)
	p := &passes{fake: db}
	pass := Pass{Table: p, Rows: 10, Part: true, Pause: noPause}
	for i, want := range []session.Pruned{{Emptied: 200}, {Emptied: 200}, {Emptied: 50}, {}} {
		if done, err := e.Prune(t.Context(), pass); done != want || err != nil {
			t.Errorf("pass %d = %+v, %v; want %+v", i, done, err, want)
		}
		if swept := []int64{200, 400, 0, 200}[i]; p.swept != swept {
			t.Errorf("pass %d came to %d, want %d", i, p.swept, swept)
		}
	}
	// Large holes take one step each.
	p.emptied, p.swept = nil, 400
	db.lastID = 60 * 1000
	for i := range sweepPasses + 1 {
		if _, err := e.Prune(t.Context(), pass); err != nil {
			t.Error(err)
		}
		if round := p.swept == 0; round {
			if i < sweepPasses-2 {
				t.Errorf("it was round after %d passes", i)
			}
			break
		}
	}
	if p.swept != 0 || len(p.emptied) > 5+sweepPasses+1 {
		t.Errorf("it came to %d, in %d steps", p.swept, len(p.emptied))
	}
	// An empty table is no step.
	clear(db.rows)
	db.lastID, p.emptied = 0, nil
	if done, err := e.Prune(t.Context(), pass); done != (session.Pruned{}) || err != nil || len(p.emptied) != 0 || p.swept != 0 {
		t.Errorf("an empty table: %+v, %v, %d", done, err, p.emptied)
	}
}

func TestAPassThatFailsTellsHowFarItCame(t *testing.T) {
	t.Parallel()
	e, db := newFake(t)
	db.idle(25)
	p := &passes{fake: db, dead: 5, fails: errDisk}
	done, err := e.Prune(t.Context(), Pass{Table: p, Rows: 10, Part: true, Pause: noPause})
	if want := (session.Pruned{Rows: 5, Emptied: 10}); !errors.Is(err, errDisk) || done != want || e.Stats().Pruned != want || p.swept != 0 {
		t.Errorf("Prune = %+v, %v, came to %d", done, err, p.swept)
	}
}

func TestStepsAreAsLargeAsTheirTimeAllows(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		each    time.Duration
		retired []int64
	}{
		"fast rows":      {time.Microsecond, []int64{16, 32, 64, 100, 100, 88}},
		"slow rows":      {60 * time.Microsecond, []int64{16, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32}},
		"very slow rows": {time.Second, slices.Repeat([]int64{16}, 25)},
	} {
		synctest.Test(t, func(t *testing.T) {
			e, db := newFake(t)
			p := &passes{fake: db, dead: 400, each: c.each}
			if _, err := e.Prune(t.Context(), Pass{Table: p, Rows: 100, Step: 2 * time.Millisecond, Pause: noPause}); err != nil {
				t.Error(err)
			}
			var all int64
			for _, n := range p.retired {
				all += n
			}
			if all != 400 || !slices.Equal(p.retired[:len(c.retired)], c.retired) {
				t.Errorf("%s: the steps deleted %d", what, p.retired)
			}
		})
	}
}

func TestAPassPausesAfterItsSteps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, db := newFake(t)
		db.idle(15)
		p := &passes{fake: db, dead: 15, takes: time.Second}
		var changed []int64
		pass := Pass{Table: p, Rows: 10, Pause: func(took time.Duration, n int64) time.Duration {
			changed = append(changed, n)
			return 2 * took
		}}
		began := time.Now()
		if _, err := e.Prune(t.Context(), pass); err != nil || !slices.Equal(changed, []int64{10, 5, 10, 5}) {
			t.Errorf("the steps changed %d, %v", changed, err)
		}
		if took := time.Since(began); took != 12*time.Second {
			t.Errorf("it took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := e.Prune(ctx, pass)
		wantErr(t, "a pass with too little time", err, context.DeadlineExceeded)
	})
}

func TestPassesComeNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, _ := newFake(t)
		var failed []error
		e.OnError = func(err error) { failed = append(failed, err) }
		n := 0
		e.StartPruning(func(ctx context.Context) {
			e.PruneNowAndThen(ctx, nil, time.Minute, func(context.Context) error {
				if n++; n == 2 {
					return errDisk
				}
				e.NoteTurn(Turn{At: noon, By: "me"})
				return nil
			})
		})
		if !wait.Sleep(t.Context(), 10*time.Minute) {
			t.Fatal("it ended early")
		}
		if err := e.StopPruning(t.Context()); err != nil {
			t.Error(err)
		}
		if n < 8 || n > 14 || len(failed) != 1 || !errors.Is(failed[0], errDisk) {
			t.Errorf("%d passes in 10 minutes, which failed with %v", n, failed)
		}
		if st := e.Stats(); st.MaintainedBy != "me" || !st.Maintained.Equal(noon) || st.BackgroundErrors != 1 {
			t.Errorf("Stats: %+v", st)
		}
		wantErr(t, "Close", e.Close(t.Context()), nil)
		wantErr(t, "StopPruning", e.StopPruning(t.Context()), session.ErrClosed)
	})
}
