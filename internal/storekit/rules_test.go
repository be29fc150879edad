package storekit_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

var (
	limits = storekit.Limits{MaxData: 10, MaxUser: 5, MostUser: 8, Longest: 48 * time.Hour, Slack: time.Minute}
	now    = time.Date(2026, 3, 4, 5, 30, 0, 123456789, time.UTC)
)

func good() session.Record {
	deadline := now.Add(2 * time.Hour)
	return session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline, User: "alice", Data: []byte("0123456789")}
}

func TestNewBringsASessionIntoTheFormThatIsKept(t *testing.T) {
	t.Parallel()
	rec := good()
	rec.Version, rec.Created = 7, now
	got, err := limits.New(rec, now)
	if err != nil {
		t.Fatal(err)
	}
	want := now.Add(2 * time.Hour).Truncate(time.Microsecond).Add(time.Microsecond)
	if !got.Deadline.Equal(want) || !got.Expires.Equal(want) {
		t.Errorf("Deadline %v, Expires %v; want both %v", got.Deadline, got.Expires, want)
	}
	if got.Version != 7 || !got.Created.Equal(now) || got.User != "alice" || string(got.Data) != "0123456789" {
		t.Errorf("the rest changed: %+v", got)
	}
}

func TestNewNamesWhatItRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*session.Record)
		want   error
		field  string
	}{
		"no key":                  {func(r *session.Record) { r.Key = session.Key{} }, session.ErrInvalid, "Record.Key"},
		"another bucket":          {func(r *session.Record) { r.Key.Bucket++ }, session.ErrInvalid, "Record.Key"},
		"long data":               {func(r *session.Record) { r.Data = make([]byte, 11) }, session.ErrTooLarge, "Record.Data has 11 bytes; the limit is 10"},
		"a long user":             {func(r *session.Record) { r.User = "alice." }, session.ErrTooLarge, "Record.User has 6 bytes; the limit is 5"},
		"a user that is no UTF-8": {func(r *session.Record) { r.User = "a\xff" }, session.ErrInvalid, "Record.User"},
		"a user with a NUL":       {func(r *session.Record) { r.User = "a\x00" }, session.ErrInvalid, "Record.User has a NUL at byte 1"},
		"no deadline":             {func(r *session.Record) { r.Deadline = time.Time{} }, session.ErrDeadline, "Record.Deadline is missing"},
		"a deadline that is now":  {until(now.Truncate(time.Microsecond)), session.ErrDeadline, "Record.Deadline passed"},
		"a deadline before 1970":  {until(time.Unix(-1, 0)), session.ErrDeadline, "Record.Deadline passed"},
		"a deadline too far":      {until(now.Add(48*time.Hour + time.Minute + time.Microsecond)), session.ErrDeadline, "Record.Deadline is 48h1m0s away"},
		"a deadline beyond years": {until(time.Unix(math.MaxInt64-1<<40, 0)), session.ErrDeadline, "Record.Deadline is"},
		"an expiry that is now":   {func(r *session.Record) { r.Expires = now }, session.ErrDeadline, "Record.Expires passed"},
		"an expiry too late":      {func(r *session.Record) { r.Expires = r.Deadline.Add(time.Second) }, session.ErrDeadline, "Record.Expires is"},
	} {
		rec := good()
		c.change(&rec)
		_, err := limits.New(rec, now)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: %v; want %v with %q", name, err, c.want, c.field)
		}
	}
}

func until(deadline time.Time) func(*session.Record) {
	return func(r *session.Record) {
		r.Deadline, r.Expires = deadline, time.Time{}
		r.Key = session.NewID(deadline).Key()
	}
}

func TestAForeignKeyHasNoBucketToCompare(t *testing.T) {
	t.Parallel()
	rec := good()
	rec.Key = session.ForeignKey("test", "token")
	if got, err := limits.New(rec, now); err != nil || got.Key != rec.Key {
		t.Errorf("New = %v/%d, %v", got.Key, got.Key.Bucket, err)
	}
}

func TestTheLongestLifetimeIsInTimeHoweverItIsRounded(t *testing.T) {
	t.Parallel()
	strict := limits
	strict.Slack = 0
	for _, at := range []time.Time{now, now.Truncate(time.Microsecond), now.Truncate(time.Hour)} {
		rec := good()
		until(at.Add(limits.Longest))(&rec)
		if _, err := limits.New(rec, at); err != nil {
			t.Errorf("at %v: %v", at, err)
		}
	}
	rec := good()
	until(now.Add(limits.Longest + time.Second))(&rec)
	if _, err := strict.New(rec, now); !errors.Is(err, session.ErrDeadline) {
		t.Errorf("without slack: %v", err)
	}
}

func TestUsersAndTheirLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want error
	}{
		{limits.User("user", "bob"), nil},
		{limits.User("user", ""), session.ErrInvalid},
		{limits.User("user", "robert"), nil}, // it may have been allowed
		{limits.User("user", "robertson"), session.ErrTooLarge},
		{limits.UserLimit("robert", session.UserLimit{}), session.ErrTooLarge},
		{limits.UserLimit("bob", session.UserLimit{}), nil},
		{limits.UserLimit("bob", session.UserLimit{Max: -1}), session.ErrInvalid},
		{limits.UserLimit("", session.UserLimit{Max: 1}), session.ErrInvalid},
		{storekit.Grace(0), nil},
		{storekit.Grace(session.MaxGrace), nil},
		{storekit.Grace(-1), session.ErrInvalid},
		{storekit.Grace(session.MaxGrace + 1), session.ErrInvalid},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%v; want %v", c.err, c.want)
		}
	}
}

func TestOnlyPossibleKeysAreWorthAsking(t *testing.T) {
	t.Parallel()
	hash := good().Key.Hash
	for bucket, want := range map[int32]bool{0: true, 1: true, session.BucketOf(now): true, math.MaxInt32: true, -1: false, math.MinInt32: false} {
		if got := storekit.Possible(session.Key{Hash: hash, Bucket: bucket}); got != want {
			t.Errorf("bucket %d: %v; want %v", bucket, got, want)
		}
	}
	if storekit.Possible(session.Key{}) || storekit.Possible(session.Key{Bucket: 1}) {
		t.Error("a key without a hash is possible")
	}
}

func FuzzTimesKeepTheirOrderAndBucket(f *testing.F) {
	f.Add(int64(1772602200), int64(123456789))
	f.Add(int64(-1), int64(0))
	f.Add(int64(math.MaxInt64), int64(999999999))
	f.Add(int64(math.MinInt64), int64(1))
	f.Add(int64(253370764800), int64(0))
	f.Fuzz(func(t *testing.T, sec, nsec int64) {
		at := time.Unix(sec, nsec)
		up, down := storekit.Deadline(at), storekit.Expiry(at)
		for _, kept := range []time.Time{up, down} {
			if again := storekit.Time(storekit.Micros(kept)); !again.Equal(kept) || again.Location() != time.UTC {
				t.Errorf("%v is kept as %v", kept, again)
			}
		}
		if down.After(up) || up.Sub(down) > time.Microsecond {
			t.Errorf("Expiry %v, Deadline %v", down, up)
		}
		if at.Before(time.Unix(0, 0)) || at.After(time.Date(9998, 1, 1, 0, 0, 0, 0, time.UTC)) {
			return
		}
		if up.Before(at) || down.After(at) {
			t.Errorf("%v: Expiry %v, Deadline %v", at, down, up)
		}
		if session.BucketOf(up) != session.BucketOf(at) {
			t.Errorf("the bucket of %v is %d, that of %v is %d", at, session.BucketOf(at), up, session.BucketOf(up))
		}
	})
}
