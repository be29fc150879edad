package sqlrow_test

import (
	"database/sql/driver"
	"errors"
	"reflect"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	noon    = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	errLost = errors.New("the answer was lost")
	limits  = storekit.Limits{MaxData: 100, MaxUser: 100, MostUser: 100, Longest: 24 * time.Hour}
)

// stored is a live session of ada, with version 7, until one, two at the latest.
func stored() *sqlrow.Row {
	deadline := noon.Add(2 * time.Hour)
	rec := session.Record{
		Key: session.NewID(deadline).Key(), Version: 7, User: "ada", Data: []byte("old"),
		Created: noon.Add(-time.Hour), Expires: noon.Add(time.Hour), Deadline: deadline,
	}
	return &sqlrow.Row{Rec: rec, Now: noon}
}

func ended() *sqlrow.Row {
	r := stored()
	r.Ended = noon.Add(-time.Minute)
	return r
}

func expired() *sqlrow.Row {
	r := stored()
	r.Rec.Expires = noon
	return r
}

func renewed(grace time.Duration) *sqlrow.Row {
	r := ended()
	r.Next, r.GraceUntil = make([]byte, 32), noon.Add(grace)
	return r
}

func TestOnlyALiveRowIsWritten(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		row             *sqlrow.Row
		save, touch     error
		put, putUnknown error
		renew           error
		fate            session.Fate
	}{
		"live":             {stored(), nil, nil, nil, nil, nil, session.FateLive},
		"none":             {nil, session.ErrNotFound, session.ErrNotFound, nil, nil, session.ErrNotFound, session.FateUnknown},
		"ended":            {ended(), session.ErrNotFound, session.ErrNotFound, session.ErrNotFound, session.ErrUnknown, session.ErrNotFound, session.FateEnded},
		"expired":          {expired(), session.ErrNotFound, session.ErrNotFound, session.ErrNotFound, session.ErrUnknown, session.ErrNotFound, session.FateExpired},
		"renewed":          {renewed(0), session.ErrNotFound, session.ErrNotFound, session.ErrNotFound, session.ErrUnknown, session.ErrNotFound, session.FateRenewed},
		"renewed in grace": {renewed(time.Second), session.ErrConflict, session.ErrNotFound, session.ErrNotFound, session.ErrUnknown, session.ErrConflict, session.FateRenewed},
	} {
		check := func(what string, err, want error) {
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("%s of %s: %v, want %v", what, name, err, want)
			}
		}
		rec := stored().Rec
		if tt.row != nil {
			rec.Key = tt.row.Rec.Key
			_, err := tt.row.Put(rec, true, nil)
			check("Put", err, tt.put)
			_, err = tt.row.Put(rec, true, errLost)
			check("Put after a lost answer", err, tt.putUnknown)
		}
		_, err := tt.row.Save(rec, 8, true)
		check("Save", err, tt.save)
		_, _, err = tt.row.Touch(noon.Add(90 * time.Minute))
		check("Touch", err, tt.touch)
		_, err = tt.row.Renew(rec, 7)
		check("Renew", err, tt.renew)
		if fate := tt.row.Fate(); fate != tt.fate {
			t.Errorf("the fate of %s is %v, want %v", name, fate, tt.fate)
		}
	}
}

func TestASaveNamesTheVersionAndTheUser(t *testing.T) {
	t.Parallel()
	r := stored()
	rec := r.Rec
	rec.Data, rec.Expires = []byte("new"), time.Time{}
	out, err := r.Save(rec, 9, true)
	want := r.Rec
	want.Data, want.Version = rec.Data, 9
	if err != nil || !reflect.DeepEqual(out, want) {
		t.Errorf("without an expiry: %+v, %v; want %+v", out, err, want)
	}
	rec.Expires = noon.Add(5 * time.Hour)
	if out, err = r.Save(rec, 9, true); err != nil || !out.Expires.Equal(r.Rec.Deadline) {
		t.Errorf("an expiry past the deadline: %v, %v", out.Expires, err)
	}
	rec.Version = 6
	if _, err := r.Save(rec, 9, true); !errors.Is(err, session.ErrConflict) {
		t.Errorf("another version: %v", err)
	}
	rec.Version, rec.User = 7, "eve"
	if _, err := r.Save(rec, 9, true); !errors.Is(err, session.ErrUserChanged) {
		t.Errorf("another user: %v", err)
	}
}

// A node whose clock lags believes that an expiry lies ahead which has passed.
func TestAWriteEndsNoSessionByMistake(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		expires time.Time
		mayEnd  bool
		want    error
	}{
		{noon, false, session.ErrDeadline},
		{noon, true, nil},
		{noon.Add(time.Second), false, nil},
		{time.Time{}, false, nil},
	} {
		rec := stored().Rec
		r := stored()
		rec.Key, rec.Expires = r.Rec.Key, tt.expires
		_, saved := r.Save(rec, 9, tt.mayEnd)
		_, put := r.Put(rec, tt.mayEnd, nil)
		for what, err := range map[string]error{"Save": saved, "Put": put} {
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("%s until %v, which may end it: %t: %v, want %v", what, tt.expires, tt.mayEnd, err, tt.want)
			}
		}
	}
}

func TestATouchNeverShortens(t *testing.T) {
	t.Parallel()
	for to, want := range map[time.Duration]struct {
		inForce time.Duration
		write   bool
	}{
		30 * time.Minute: {time.Hour, false},
		time.Hour:        {time.Hour, false},
		90 * time.Minute: {90 * time.Minute, true},
		9 * time.Hour:    {2 * time.Hour, true},
	} {
		inForce, write, err := stored().Touch(noon.Add(to))
		if err != nil || write != want.write || !inForce.Equal(noon.Add(want.inForce)) {
			t.Errorf("to %v: in force is %v, written: %t, %v", to, inForce.Sub(noon), write, err)
		}
	}
}

func TestAPutNamesTheSessionOfItsHash(t *testing.T) {
	t.Parallel()
	r := stored()
	rec := session.Record{Key: r.Rec.Key, Version: 5, Data: []byte("new")}
	if out, err := r.Put(rec, true, nil); err != nil || out.Version != 12 || out.User != "ada" || string(out.Data) != "new" {
		t.Errorf("Put: %+v, %v", out, err)
	}
	rec.User = "eve"
	if _, err := r.Put(rec, true, nil); !errors.Is(err, session.ErrUserChanged) {
		t.Errorf("another user: %v", err)
	}
	rec.User, rec.Key.Bucket = "", rec.Key.Bucket+1
	if _, err := r.Put(rec, true, nil); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("another bucket: %v", err)
	}
}

func TestAPutOfANewSessionEndsWhenItsKeySays(t *testing.T) {
	t.Parallel()
	native := session.NewID(noon.Add(3 * time.Hour)).Key()
	foreign := session.ForeignKey("test", "token")
	for name, tt := range map[string]struct {
		rec               session.Record
		expires, deadline time.Duration
	}{
		"a foreign key":            {session.Record{Key: foreign}, 24 * time.Hour, 24 * time.Hour},
		"a native key":             {session.Record{Key: native}, 3 * time.Hour, 3 * time.Hour},
		"an expiry past the end":   {session.Record{Key: native, Expires: noon.Add(9 * time.Hour)}, 3 * time.Hour, 3 * time.Hour},
		"an expiry before the end": {session.Record{Key: native, Expires: noon.Add(time.Hour)}, time.Hour, 3 * time.Hour},
	} {
		out, err := sqlrow.PutNew(tt.rec, limits, noon)
		if err != nil || !out.Expires.Equal(noon.Add(tt.expires)) || !out.Deadline.Equal(noon.Add(tt.deadline)) {
			t.Errorf("%s: until %v, %v at the latest, %v", name, out.Expires.Sub(noon), out.Deadline.Sub(noon), err)
		}
	}
}

func TestARenewalKeepsSinceWhenTheUserHasIt(t *testing.T) {
	t.Parallel()
	r := stored()
	for user, want := range map[string]time.Time{"ada": r.Rec.Created, "eve": noon, "": noon} {
		created, err := r.Renew(session.Record{User: user}, 7)
		if err != nil || !created.Equal(want) {
			t.Errorf("to user %q: since %v, %v; want %v", user, created, err, want)
		}
	}
	if _, err := r.Renew(r.Rec, 6); !errors.Is(err, session.ErrConflict) {
		t.Errorf("another version: %v", err)
	}
	next := session.Key{Hash: [32]byte{1}}
	r.Next = next.Hash[:]
	var none *sqlrow.Row
	if !r.RenewedTo(next) || r.RenewedTo(session.Key{}) || none.RenewedTo(next) || r.Successor() != next {
		t.Error("it does not know what it was renewed to")
	}
}

// A version tells what came of a write whose answer was lost: nobody else can have
// written it.
func TestAVersionTellsWhatCameOfALostWrite(t *testing.T) {
	t.Parallel()
	rec := stored().Rec // as it was read
	at := func(version int64, r *sqlrow.Row) *sqlrow.Row {
		r.Rec.Version = version
		return r
	}
	for name, tt := range map[string]struct {
		row    *sqlrow.Row
		done   bool
		reason error
	}{
		"it took place":                     {at(9, stored()), true, nil},
		"it took place, and it was ended":   {at(9, ended()), true, nil},
		"it did not":                        {at(7, stored()), false, nil},
		"there is no row":                   {nil, false, nil},
		"another one overtook":              {at(10, stored()), false, session.ErrUnknown},
		"it may have ended the session":     {at(7, ended()), false, session.ErrUnknown},
		"it expired before it was written":  {at(7, expired()), false, nil},
		"another one ended it with a write": {at(11, ended()), false, session.ErrUnknown},
	} {
		done, err := tt.row.WasSaved(rec, 9, errLost)
		if (done != nil) != tt.done || !errors.Is(err, tt.reason) || tt.reason == nil && err != nil || err != nil && !errors.Is(err, errLost) {
			t.Errorf("a save, %s: %+v, %v", name, done, err)
		}
	}
	for name, tt := range map[string]struct {
		row    *sqlrow.Row
		done   bool
		reason error
	}{
		"it took place":                  {stored(), true, nil},
		"it took place, and it is over":  {ended(), true, nil},
		"there is no row":                {nil, false, nil},
		"a save came after it":           {at(8, stored()), false, session.ErrUnknown},
		"somebody else had the key":      {at(6, stored()), false, session.ErrExists},
		"somebody else had it, it ended": {at(6, ended()), false, session.ErrExists},
	} {
		done, err := tt.row.WasCreated(rec, errLost)
		if (done != nil) != tt.done || !errors.Is(err, tt.reason) || tt.reason == nil && err != nil {
			t.Errorf("a creation, %s: %+v, %v", name, done, err)
		}
	}
}

func TestAScannerChecksWhatItReads(t *testing.T) {
	t.Parallel()
	damaged := errors.New("damaged")
	hash := make([]byte, 32)
	whole := func() []driver.Value {
		return []driver.Value{int64(5), int64(6), int64(7), int64(1e6), int64(2e6), int64(3e6), nil, nil, nil, "ada", []byte("data")}
	}
	s := sqlrow.Scanner{Values: whole(), Damaged: damaged}
	r := s.Row()
	want := session.Record{Key: session.Key{Bucket: 5}, Version: 7, User: "ada", Data: []byte("data"),
		Expires: time.Unix(1, 0).UTC(), Deadline: time.Unix(2, 0).UTC(), Created: time.Unix(3, 0).UTC()}
	if s.Err != nil || !reflect.DeepEqual(r.Rec, want) || r.KeptTo != 6 || !r.Ended.IsZero() || r.Next != nil || s.More() {
		t.Errorf("a row: %+v, %v", r, s.Err)
	}
	for column, bad := range map[int]driver.Value{0: "five", 1: nil, 2: 7.5, 6: []byte("late"), 7: hash[:31], 8: "soon", 9: int64(1), 10: int64(1)} {
		s := sqlrow.Scanner{Values: whole(), Damaged: damaged}
		s.Values[column] = bad
		if s.Row(); !errors.Is(s.Err, damaged) {
			t.Errorf("%T in column %d: %v", bad, column, s.Err)
		}
	}
	s = sqlrow.Scanner{Values: whole(), Damaged: damaged}
	s.Values[7] = []byte{}
	if s.Row(); !errors.Is(s.Err, damaged) {
		t.Errorf("a successor of no bytes: %v", s.Err)
	}
	for _, short := range [][]driver.Value{{}, {nil}} {
		s := sqlrow.Scanner{Values: short, Damaged: damaged}
		if s.Hash(); !errors.Is(s.Err, damaged) {
			t.Errorf("a key that is missing: %v", s.Err)
		}
	}
	shared := []byte("shared")
	s = sqlrow.Scanner{Values: []driver.Value{int64(1), int64(1), int64(1), int64(1), int64(1), int64(1), nil, nil, nil, []byte("ada"), shared}, Copies: true}
	r = s.Row()
	shared[0] = 'X'
	if s.Err != nil || string(r.Rec.Data) != "shared" || r.Rec.User != "ada" {
		t.Errorf("bytes of the driver: %q, %v", r.Rec.Data, s.Err)
	}
	if sqlrow.NullBytes(nil) != nil || sqlrow.NullBytes([]byte{}) != nil || sqlrow.NullBytes(shared) == nil {
		t.Error("NULL is for no data")
	}
}
