package sqlstore

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// First the user, then the row, then a look, a decision, and what it came to.
// Whoever ends a user's sessions locks in that order too.
func TestTransactionsLockInOneOrder(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, db := newFake(t)
	limit := session.UserLimit{Max: 1, Evict: true}
	for _, c := range []struct {
		what string
		do   func(key session.Key, rec session.Record) error
		did  []string
	}{
		{"Create", func(_ session.Key, rec session.Record) error { _, err := e.Create(ctx, rec); return err },
			[]string{"admit ada", "insert", "end 0"}},
		{"Create for nobody", func(_ session.Key, rec session.Record) error {
			rec.User = ""
			_, err := e.Create(ctx, rec)
			return err
		}, []string{"now", "insert", "end 0"}},
		{"CreateLimited", func(_ session.Key, rec session.Record) error {
			_, _, err := e.CreateLimited(ctx, rec, limit)
			return err
		},
			[]string{"admit ada alone", "list ada", "insert", "lock all 1", "end 1"}},
		{"Save", func(key session.Key, rec session.Record) error {
			rec.Key, rec.Version = key, 7
			_, err := e.Save(ctx, rec)
			return err
		}, []string{"lock", "save"}},
		{"Save that ends it", func(key session.Key, rec session.Record) error {
			rec.Key, rec.Version, rec.Expires = key, 7, noon
			_, err := e.Save(ctx, rec)
			return err
		}, []string{"lock", "end 1"}},
		{"Touch", func(key session.Key, _ session.Record) error {
			_, err := e.Touch(ctx, key, noon.Add(90*time.Minute))
			return err
		},
			[]string{"lock", "touch"}},
		{"Touch that is no later", func(key session.Key, _ session.Record) error { _, err := e.Touch(ctx, key, noon); return err },
			[]string{"lock"}},
		{"Renew", func(key session.Key, rec session.Record) error {
			rec.Version = 7
			_, err := e.Renew(ctx, key, rec, 0)
			return err
		}, []string{"admit ada", "lock", "insert", "renew"}},
		{"Renew for nobody", func(key session.Key, rec session.Record) error {
			rec.Version, rec.User = 7, ""
			_, err := e.Renew(ctx, key, rec, 0)
			return err
		}, []string{"lock", "insert", "renew"}},
		{"RenewLimited", func(key session.Key, rec session.Record) error {
			db.add("ada")
			rec.Version = 7
			_, _, err := e.RenewLimited(ctx, key, rec, 0, limit)
			return err
		}, []string{"admit ada alone", "lock", "list ada", "insert", "lock all 1", "end 1", "renew"}},
		{"Put", func(key session.Key, rec session.Record) error { rec.Key = key; _, err := e.Put(ctx, rec); return err },
			[]string{"lock", "save"}},
		{"Put of a new one", func(_ session.Key, rec session.Record) error { _, err := e.Put(ctx, rec); return err },
			[]string{"lock", "admit ada", "insert"}},
		{"Destroy", func(key session.Key, _ session.Record) error { _, err := e.Destroy(ctx, key); return err },
			[]string{"lock", "end 1"}},
		{"DestroyUser", func(session.Key, session.Record) error { _, err := e.DestroyUser(ctx, "ada"); return err },
			[]string{"admit ada alone", "page 0", "end 1"}},
		{"Clear", func(session.Key, session.Record) error { _, err := e.Clear(ctx); return err },
			[]string{"page 0", "end 1"}},
	} {
		clear(db.rows)
		key := db.add("ada").Rec.Key
		db.did = nil
		if err := c.do(key, newOf("ada")); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		did := slices.DeleteFunc(db.did, func(s string) bool { return s == "end 0" })
		want := slices.DeleteFunc(c.did, func(s string) bool { return s == "end 0" })
		if !slices.Equal(did, want) {
			t.Errorf("%s did %q, want %q", c.what, did, want)
		}
	}
}

// The fake database fails a test whose refusal has changed something.
func TestARefusalChangesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	evicting, refusing := session.UserLimit{Max: 1, Evict: true}, session.UserLimit{Max: 1}
	for what, c := range map[string]struct {
		do   func(e *Engine, db *fake, key session.Key, rec session.Record) error
		want error
	}{
		"too many": {func(e *Engine, _ *fake, _ session.Key, rec session.Record) error {
			_, _, err := e.CreateLimited(ctx, rec, refusing)
			return err
		}, session.ErrUserLimit},
		"a key that was used, though others would have to go": {func(e *Engine, _ *fake, key session.Key, rec session.Record) error {
			rec.Key = session.Key{Hash: key.Hash}
			_, _, err := e.CreateLimited(ctx, rec, evicting)
			return err
		}, session.ErrExists},
		"a deadline that passed while it waited": {func(e *Engine, db *fake, _ session.Key, rec session.Record) error {
			db.before["admit"] = func() { db.now = rec.Deadline }
			_, _, err := e.CreateLimited(ctx, rec, evicting)
			return err
		}, session.ErrDeadline},
		"a renewal of another version": {func(e *Engine, _ *fake, key session.Key, rec session.Record) error {
			rec.Version = 6
			_, _, err := e.RenewLimited(ctx, key, rec, 0, evicting)
			return err
		}, session.ErrConflict},
		"a renewal to too many": {func(e *Engine, db *fake, key session.Key, rec session.Record) error {
			db.add("ada")
			rec.Version = 7
			_, _, err := e.RenewLimited(ctx, key, rec, 0, refusing)
			return err
		}, session.ErrUserLimit},
		"a renewal to a key that was used": {func(e *Engine, db *fake, key session.Key, rec session.Record) error {
			rec.Version, rec.Key = 7, session.Key{Hash: db.add("ada").Rec.Key.Hash}
			_, _, err := e.RenewLimited(ctx, key, rec, 0, evicting)
			return err
		}, session.ErrExists},
		"a renewal of nothing": {func(e *Engine, _ *fake, _ session.Key, rec session.Record) error {
			_, err := e.Renew(ctx, newOf("").Key, rec, 0)
			return err
		}, session.ErrNotFound},
		"a save of another version": {func(e *Engine, _ *fake, key session.Key, rec session.Record) error {
			rec.Key, rec.Version = key, 6
			_, err := e.Save(ctx, rec)
			return err
		}, session.ErrConflict},
		"a key with another bucket": {func(e *Engine, _ *fake, key session.Key, rec session.Record) error {
			rec.Key, rec.Version = session.Key{Hash: key.Hash, Bucket: key.Bucket + 1}, 7
			_, err := e.Save(ctx, rec)
			return err
		}, session.ErrNotFound},
		"a touch of what has expired": {func(e *Engine, db *fake, key session.Key, _ session.Record) error {
			db.now = noon.Add(time.Hour)
			_, err := e.Touch(ctx, key, noon.Add(2*time.Hour))
			return err
		}, session.ErrNotFound},
		"a Put of another user": {func(e *Engine, _ *fake, key session.Key, rec session.Record) error {
			rec.Key, rec.User = key, "eve"
			_, err := e.Put(ctx, rec)
			return err
		}, session.ErrUserChanged},
	} {
		e, db := newFake(t)
		key := db.add("ada").Rec.Key
		wantErr(t, what, c.do(e, db, key, newOf("ada")), c.want)
		if n := e.Stats().Refused; n != 1 {
			t.Errorf("%s: %d refusals were counted", what, n)
		}
	}
}

func TestALimitMakesRoomForTheNewest(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, db := newFake(t)
	first, second, third := db.add("ada"), db.add("ada"), db.add("ada")
	dead, others := db.add("ada"), db.add("eve")
	dead.Rec.Expires = noon // by itself
	got, evicted, err := e.CreateLimited(ctx, newOf("ada"), session.UserLimit{Max: 2, Evict: true})
	if err != nil || !reflect.DeepEqual(evicted, []session.Key{first.Rec.Key, second.Rec.Key}) || !got.Created.Equal(noon) || got.Version == 0 {
		t.Errorf("CreateLimited = %+v, %v, %v", got, evicted, err)
	}
	db.wantDead(t, "CreateLimited", first, second)

	// What is renewed makes room for itself.
	rec := newOf("ada")
	rec.Version = third.Rec.Version
	if _, evicted, err = e.RenewLimited(ctx, third.Rec.Key, rec, 0, session.UserLimit{Max: 2}); err != nil || len(evicted) != 0 {
		t.Errorf("RenewLimited = %v, %v", evicted, err)
	}
	db.wantDead(t, "RenewLimited", first, second, third)
	// A login of another user's browser does not.
	rec = newOf("ada")
	rec.Version = others.Rec.Version
	if _, _, err := e.RenewLimited(ctx, others.Rec.Key, rec, 0, session.UserLimit{Max: 2}); !errors.Is(err, session.ErrUserLimit) {
		t.Errorf("RenewLimited of another user's: %v", err)
	}

	// What others ended, or removed, after it was found was not evicted.
	clear(db.rows)
	first, second, third = db.add("ada"), db.add("ada"), db.add("ada")
	db.before["lock all"] = func() {
		db.end(db.rows[first.Rec.Key.Hash])
		delete(db.rows, second.Rec.Key.Hash)
		db.rows[third.Rec.Key.Hash].Rec.Expires = noon
	}
	if _, evicted, err = e.CreateLimited(ctx, newOf("ada"), session.UserLimit{Max: 1, Evict: true}); err != nil || len(evicted) != 0 {
		t.Errorf("CreateLimited = %v, %v; want that nobody was evicted", evicted, err)
	}
	if did := db.did[len(db.did)-2:]; !slices.Equal(did, []string{"lock all 3", "end 1"}) {
		t.Errorf("it did %q; want that it ends what has only expired", did)
	}
	delete(db.before, "lock all")
	if st := e.Stats(); st.Creates != 2 || st.Renews != 1 || st.Destroys != 2 || st.Refused != 1 {
		t.Errorf("Stats: %+v", st)
	}

	// A lot are locked in turns.
	clear(db.rows)
	for range 2*StepRows + 1 {
		db.add("ada")
	}
	db.did = nil
	if _, evicted, err = e.CreateLimited(ctx, newOf("ada"), session.UserLimit{Max: 1, Evict: true}); err != nil || len(evicted) != 2*StepRows+1 {
		t.Errorf("CreateLimited evicted %d, %v", len(evicted), err)
	}
	if want := []string{"lock all 500", "end 500", "lock all 500", "end 500", "lock all 1", "end 1"}; !slices.Equal(db.did[3:], want) {
		t.Errorf("it did %q", db.did)
	}
}

// A write whose answer was lost is asked about: it has happened once, and its
// caller is told what it did.
func TestALostAnswerIsLookedInto(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	limit := session.UserLimit{Max: 1, Evict: true}
	type outcome struct {
		rec     session.Record
		evicted []session.Key
	}
	for what, do := range map[string]func(e *Engine, key session.Key, rec session.Record) (outcome, error){
		"Create": func(e *Engine, _ session.Key, rec session.Record) (outcome, error) {
			rec, err := e.Create(ctx, rec)
			return outcome{rec: rec}, err
		},
		"CreateLimited": func(e *Engine, _ session.Key, rec session.Record) (outcome, error) {
			rec, evicted, err := e.CreateLimited(ctx, rec, limit)
			return outcome{rec, evicted}, err
		},
		"Save": func(e *Engine, key session.Key, rec session.Record) (outcome, error) {
			rec.Key, rec.Version = key, 7
			rec, err := e.Save(ctx, rec)
			return outcome{rec: rec}, err
		},
		"Touch": func(e *Engine, key session.Key, _ session.Record) (outcome, error) {
			expires, err := e.Touch(ctx, key, noon.Add(90*time.Minute))
			return outcome{rec: session.Record{Expires: expires}}, err
		},
		"Renew": func(e *Engine, key session.Key, rec session.Record) (outcome, error) {
			rec.Version = 7
			rec, err := e.Renew(ctx, key, rec, time.Minute)
			return outcome{rec: rec}, err
		},
		"RenewLimited": func(e *Engine, key session.Key, rec session.Record) (outcome, error) {
			rec.Version = 7
			rec, evicted, err := e.RenewLimited(ctx, key, rec, time.Minute, limit)
			return outcome{rec, evicted}, err
		},
		"Put": func(e *Engine, key session.Key, rec session.Record) (outcome, error) {
			rec.Key = key
			rec, err := e.Put(ctx, rec)
			return outcome{rec: rec}, err
		},
		"Put of a new one": func(e *Engine, _ session.Key, rec session.Record) (outcome, error) {
			rec, err := e.Put(ctx, rec)
			return outcome{rec: rec}, err
		},
		"Destroy": func(e *Engine, key session.Key, _ session.Record) (outcome, error) {
			_, err := e.Destroy(ctx, key)
			return outcome{}, err
		},
	} {
		for name, answers := range map[string][]answer{"done": {lostDone}, "not done": {lostUndone}, "lost twice": {lostUndone, lostDone}} {
			e, db := newFake(t)
			row := db.add("ada")
			if what == "RenewLimited" {
				row = db.add("ada")
			}
			db.answers = answers
			got, err := do(e, row.Rec.Key, newOf("ada"))
			if err != nil {
				t.Errorf("%s, %s: %v", what, name, err)
				continue
			}
			if got.rec.Key != (session.Key{}) {
				kept := db.rows[got.rec.Key.Hash]
				if kept == nil || !reflect.DeepEqual(kept.Rec, got.rec) {
					t.Errorf("%s, %s: it returned %+v, and the table has %+v", what, name, got.rec, kept)
				}
			}
			if limited := what == "CreateLimited" || what == "RenewLimited"; limited && len(got.evicted) != 1 {
				t.Errorf("%s, %s: it says that it evicted %v", what, name, got.evicted)
			}
		}
	}
}

func TestWhatOthersDidAfterALostAnswerIsUnknown(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, db := newFake(t)
	overtaken := func(hash func() [32]byte) {
		db.answers = []answer{lostDone}
		locks := 0
		db.before["lock"] = func() {
			if r := db.rows[hash()]; locks > 0 && r != nil {
				r.Rec.Version += 1 << 40 // another node has saved it
			}
			locks++
		}
	}
	row := db.add("ada")
	overtaken(func() [32]byte { return row.Rec.Key.Hash })
	rec := newOf("ada")
	rec.Key, rec.Version = row.Rec.Key, 7
	_, err := e.Save(ctx, rec)
	wantErr(t, "Save", err, session.ErrUnknown)
	wantErr(t, "Save", err, errLost)

	// The row that a renewal has made was removed.
	delete(db.before, "lock")
	row = db.add("ada")
	db.answers = []answer{lostDone}
	db.before["admit"] = func() {
		if old := db.rows[row.Rec.Key.Hash]; old.Next != nil {
			delete(db.rows, [32]byte(old.Next))
		}
	}
	rec = newOf("ada")
	rec.Version = 7
	_, err = e.Renew(ctx, row.Rec.Key, rec, time.Minute)
	wantErr(t, "Renew", err, session.ErrUnknown)
	delete(db.before, "admit")

	// The Put may have been the one that ended it.
	row = db.add("ada")
	db.answers = []answer{lostUndone}
	puts := 0
	db.before["lock"] = func() {
		if puts++; puts == 2 {
			db.end(db.rows[row.Rec.Key.Hash])
		}
	}
	rec = newOf("ada")
	rec.Key = row.Rec.Key
	_, err = e.Put(ctx, rec)
	wantErr(t, "Put", err, session.ErrUnknown)
	if n := e.Stats().Refused; n != 0 {
		t.Errorf("%d were counted as refusals", n)
	}
}

func TestACounterTellsWhatFailed(t *testing.T) {
	t.Parallel()
	ctx, end := context.WithCancelCause(t.Context())
	var c Counters
	wantErr(t, "nothing lost", c.Failed(ctx, nil, errDisk), errDisk)
	if err := c.Failed(ctx, nil, errDisk); errors.Is(err, session.ErrUnknown) {
		t.Errorf("nothing lost: %v", err)
	}
	for _, last := range []error{errDisk, session.ErrConflict, nil} {
		err := c.Failed(ctx, errLost, last)
		wantErr(t, "the answer lost", err, session.ErrUnknown)
		wantErr(t, "the answer lost", err, errLost)
		if errors.Is(err, session.ErrConflict) {
			t.Errorf("a refusal that came later says nothing: %v", err)
		}
	}
	_ = c.CountUnknown(session.ErrNotFound)
	if n := c.unknown.Load(); n != 3 {
		t.Errorf("%d were unknown", n)
	}
	end(session.ErrClosed)
	wantErr(t, "once ctx has ended", c.Failed(ctx, nil, errDisk), session.ErrClosed)
}

func TestARenewalLeadsNoLongerThanTheOldDeadline(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, db := newFake(t)
	for grace, want := range map[time.Duration]time.Duration{0: 0, time.Minute: time.Minute, session.MaxGrace: 30 * time.Second} {
		row := db.add("ada")
		row.Rec.Expires, row.KeptTo = noon.Add(30*time.Second), 1<<30
		if grace == session.MaxGrace {
			row.Rec.Deadline = row.Rec.Expires
		}
		rec := newOf("ada")
		rec.Version = 7
		got, err := e.Renew(ctx, row.Rec.Key, rec, grace)
		if err != nil || !got.Created.Equal(row.Rec.Created) || got.Version <= 7 {
			t.Fatalf("Renew = %+v, %v", got, err)
		}
		old, next := db.rows[row.Rec.Key.Hash], db.rows[rec.Key.Hash]
		if !old.GraceUntil.Equal(noon.Add(want)) || old.Successor() != (session.Key{Hash: rec.Key.Hash}) || next.KeptTo != 1<<30 {
			t.Errorf("grace %v: the old key leads until %v to %v; the new row is kept to %d", grace, old.GraceUntil.Sub(noon), old.Successor(), next.KeptTo)
		}
	}
	// It may last as long as the old one did, though new ones may not.
	row := db.add("ada")
	row.Rec.Deadline = noon.Add(100 * time.Hour)
	rec := newOf("ada")
	rec.Version, rec.Deadline = 7, noon.Add(99*time.Hour)
	rec.Key = session.NewID(rec.Deadline).Key()
	_, err := e.Renew(ctx, row.Rec.Key, rec, 0)
	wantErr(t, "a renewal as long as the old one", err, nil)
	row = db.add("ada")
	rec.Key = session.NewID(rec.Deadline).Key()
	_, err = e.Renew(ctx, row.Rec.Key, rec, 0)
	wantErr(t, "a renewal that is longer", err, session.ErrDeadline)
}

func TestAKeyInItsGraceLeadsToTheHeadOfTheChain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, db := newFake(t)
	first := db.add("ada")
	second := db.renew(first, time.Minute)
	third := db.renew(second, time.Hour)
	if rec, err := e.Get(ctx, first.Rec.Key); err != nil || rec.Key.Hash != third.Rec.Key.Hash {
		t.Errorf("Get = %+v, %v", rec, err)
	}
	foreign := session.Key{Hash: third.Rec.Key.Hash}
	if rec, err := e.Get(ctx, foreign); err != nil || rec.Key != foreign {
		t.Errorf("Get by the hash = %+v, %v; want the key that was asked for", rec, err)
	}
	fate, err := e.Fate(ctx, first.Rec.Key)
	if wantErr(t, "Fate", err, nil); fate != session.FateRenewed {
		t.Errorf("Fate = %v", fate)
	}
	db.now = noon.Add(time.Minute)
	_, err = e.Get(ctx, first.Rec.Key)
	wantErr(t, "Get after the grace period", err, session.ErrNotFound)
	// A logout ends the head, however old the key is.
	if n, err := e.Destroy(ctx, first.Rec.Key, first.Rec.Key, session.Key{Hash: [32]byte{1}, Bucket: -1}, second.Rec.Key); n != 1 || err != nil {
		t.Errorf("Destroy = %d, %v", n, err)
	}
	db.wantDead(t, "Destroy", first, second, third)
	if n, err := e.Destroy(ctx, session.Key{}); n != 0 || !errors.Is(err, session.ErrInvalid) {
		t.Errorf("Destroy of the zero key = %d, %v", n, err)
	}
	if fate, err := e.Fate(ctx, newOf("").Key); fate != session.FateUnknown || err != nil {
		t.Errorf("Fate of nothing = %v, %v", fate, err)
	}
}

func TestAPutMeetsWhoeverIsFaster(t *testing.T) {
	t.Parallel()
	e, db := newFake(t)
	rec := newOf("ada")
	db.before["insert"] = func() {
		if other := db.add("ada"); db.rows[rec.Key.Hash] == nil {
			delete(db.rows, other.Rec.Key.Hash)
			other.Rec.Key = rec.Key
			db.rows[rec.Key.Hash] = other
		}
	}
	if got, err := e.Put(t.Context(), rec); err != nil || got.Version <= 7 || string(db.rows[rec.Key.Hash].Rec.Data) != "new" {
		t.Errorf("Put = %+v, %v", got, err)
	}
	if st := e.Stats(); st.Saves != 1 || st.Creates != 0 {
		t.Errorf("Stats: %+v", st)
	}
	// The other one has gone again.
	rec = newOf("ada")
	locks := 0
	db.before["lock"] = func() {
		if locks++; locks == 2 {
			delete(db.rows, rec.Key.Hash)
		}
	}
	_, err := e.Put(t.Context(), rec)
	if wantErr(t, "Put", err, errVanished); storekit.IsRefusal(err) {
		t.Errorf("Put: %v, want an error after which it is tried again", err)
	}
}

// A node that knows another machine's time asks again before it refuses, and ends
// no session by mistake.
func TestANodeAsksForTheTimeBeforeItRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, db := newFake(t)
	off, asked := 48*time.Hour, 0
	e.Now = func() time.Time { return db.now.Add(off) }
	e.Refresh = func(context.Context) error { off, asked = 0, asked+1; return nil }
	if _, err := e.Create(ctx, newOf("ada")); err != nil || asked != 1 {
		t.Errorf("Create: %v, after %d questions", err, asked)
	}
	rec := newOf("ada")
	rec.Deadline = time.Time{}
	if _, err := e.Create(ctx, rec); !errors.Is(err, session.ErrDeadline) || asked != 1 {
		t.Errorf("Create without a deadline: %v, after %d questions", err, asked)
	}
	e.Refresh = func(context.Context) error { return errDisk }
	off = 48 * time.Hour
	_, err := e.Create(ctx, newOf("ada"))
	wantErr(t, "a question without an answer", err, errDisk)

	for _, c := range []struct {
		off, expires time.Duration
		want         error
	}{
		{-time.Hour, -time.Minute, session.ErrDeadline}, // it has not passed as the node believes
		{0, -time.Minute, nil},                          // it is meant to end the session
		{-time.Hour, -2 * time.Hour, nil},
		{-time.Hour, time.Minute, nil},
	} {
		off = c.off
		row := db.add("ada")
		rec := newOf("ada")
		rec.Key, rec.Version, rec.Expires = row.Rec.Key, 7, noon.Add(c.expires)
		_, err := e.Save(ctx, rec)
		wantErr(t, "Save", err, c.want)
		row = db.add("ada")
		rec.Key = row.Rec.Key
		_, err = e.Put(ctx, rec)
		wantErr(t, "Put", err, c.want)
	}
}

// fast takes note of what it is asked for.
type fast struct{ asked []string }

func (f *fast) Create(_ context.Context, rec session.Record) (session.Record, error) {
	f.asked = append(f.asked, "create")
	return rec, nil
}

func (f *fast) Save(_ context.Context, rec session.Record, becomes int64, mayEnd bool) (session.Record, error) {
	f.asked = append(f.asked, "save")
	if becomes <= rec.Version || !mayEnd {
		return rec, errDisk
	}
	return rec, nil
}

func (f *fast) Touch(_ context.Context, _ session.Key, expires time.Time) (time.Time, error) {
	f.asked = append(f.asked, "touch")
	return expires, nil
}

func (f *fast) Destroy(_ context.Context, keys []session.Key) (int64, error) {
	f.asked = append(f.asked, "destroy")
	return int64(len(keys)), nil
}

func TestAFastWayIsTakenForWhatIsFrequent(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, db := newFake(t)
	f := &fast{}
	e.Fast = f
	rec := newOf("ada")
	_, err1 := e.Create(ctx, rec)
	_, err2 := e.Save(ctx, rec)
	_, err3 := e.Touch(ctx, rec.Key, rec.Deadline)
	n, err4 := e.Destroy(ctx, rec.Key, rec.Key)
	if err := errors.Join(err1, err2, err3, err4); err != nil || n != 1 || len(db.works) != 0 ||
		!slices.Equal(f.asked, []string{"create", "save", "touch", "destroy"}) {
		t.Errorf("it was asked for %q, and destroyed %d, %v", f.asked, n, err)
	}
	if _, _, err := e.CreateLimited(ctx, rec, session.UserLimit{}); err != nil || len(f.asked) != 5 {
		t.Errorf("CreateLimited without a limit: %v", err)
	}
	if _, _, err := e.CreateLimited(ctx, rec, session.UserLimit{Max: 1}); err != nil || len(db.works) != 1 {
		t.Errorf("CreateLimited: %v", err)
	}
	_, err1 = e.Save(ctx, session.Record{Key: session.Key{Hash: [32]byte{1}, Bucket: -1}})
	_, err2 = e.Touch(ctx, session.Key{Hash: [32]byte{1}, Bucket: -1}, noon)
	wantErr(t, "Save with a key that cannot be", err1, session.ErrNotFound)
	wantErr(t, "Touch with a key that cannot be", err2, session.ErrNotFound)
	if st := e.Stats(); len(f.asked) != 5 || st.Refused != 2 || st.Creates != 3 || st.Saves != 1 || st.Touches != 1 || st.Destroys != 1 {
		t.Errorf("it was asked for %q; Stats: %+v", f.asked, st)
	}
}

// What is wrong by itself reaches no database.
func TestArgumentsAreCheckedFirst(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, db := newFake(t)
	rec := newOf("ada")
	large := rec
	large.Data = make([]byte, 101)
	for what, c := range map[string]struct {
		do   func() error
		want error
	}{
		"Create":        {func() error { _, err := e.Create(ctx, large); return err }, session.ErrTooLarge},
		"Save":          {func() error { _, err := e.Save(ctx, large); return err }, session.ErrTooLarge},
		"Put":           {func() error { _, err := e.Put(ctx, large); return err }, session.ErrTooLarge},
		"Touch":         {func() error { _, err := e.Touch(ctx, session.Key{}, noon); return err }, session.ErrInvalid},
		"Renew":         {func() error { _, err := e.Renew(ctx, session.Key{}, rec, 0); return err }, session.ErrInvalid},
		"Renew, grace":  {func() error { _, err := e.Renew(ctx, rec.Key, rec, -1); return err }, session.ErrInvalid},
		"CreateLimited": {func() error { _, _, err := e.CreateLimited(ctx, rec, session.UserLimit{Max: -1}); return err }, session.ErrInvalid},
		"RenewLimited": {func() error {
			_, _, err := e.RenewLimited(ctx, rec.Key, newOf(""), 0, session.UserLimit{Max: 1})
			return err
		}, session.ErrInvalid},
		"ListUser":    {func() error { _, err := e.ListUser(ctx, "", session.Record{}, 1000); return err }, session.ErrInvalid},
		"CountUser":   {func() error { _, err := e.CountUser(ctx, ""); return err }, session.ErrInvalid},
		"DestroyUser": {func() error { _, err := e.DestroyUser(ctx, ""); return err }, session.ErrInvalid},
	} {
		wantErr(t, what, c.do(), c.want)
	}
	if len(db.works) != 0 {
		t.Errorf("there were transactions: %+v", db.works)
	}
}
