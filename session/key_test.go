package session_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func TestABucketIsTheHourRoundedUp(t *testing.T) {
	t.Parallel()
	hour := func(n int64) time.Time { return time.Unix(n*3600, 0) }
	for _, c := range []struct {
		deadline time.Time
		want     int32
	}{
		{hour(494_000), 494_000},
		{hour(494_000).Add(1), 494_001},
		{hour(494_000).Add(time.Second), 494_001},
		{hour(494_001).Add(-1), 494_001},
		{hour(494_001), 494_001},
		{hour(494_000).In(time.FixedZone("half past", 5*3600+1800)), 494_000},
		{time.Unix(0, 0), 1},
		{time.Unix(0, 1), 1},
		{time.Unix(1, 0), 1},
		{hour(1), 1},
		{hour(1).Add(1), 2},
		{time.Unix(-1, 999), 1},
		{hour(-5), 1},
		{time.Time{}, 1},
		{time.Unix(math.MinInt64, 0), 1},
		{hour(math.MaxInt32 - 1), math.MaxInt32 - 1},
		{hour(math.MaxInt32), math.MaxInt32},
		{hour(math.MaxInt32).Add(1), math.MaxInt32},
		{hour(1 << 40), math.MaxInt32},
		{time.Unix(math.MaxInt64, 999_999_999), math.MaxInt32},
	} {
		if got := session.BucketOf(c.deadline); got != c.want {
			t.Errorf("BucketOf(%d s, %d ns) = %d; want %d", c.deadline.Unix(), c.deadline.Nanosecond(), got, c.want)
		}
	}
}

func TestForeignKeysDifferByLibraryAndToken(t *testing.T) {
	t.Parallel()
	seen := map[session.Key][2]string{}
	for _, c := range [][2]string{
		{"", ""}, {"scs", ""}, {"", "scs"}, {"scs", "token"}, {"sc", "stoken"}, {"scst", "oken"}, {"scs:", "token"}, {"scs", ":token"},
		{"gorilla", "token"}, {"scs", "token\x00"}, {"scs", "\xff"}, {"1:a", "b"}, {"1", "a:b"}, {"scs", strings.Repeat("x", 100_000)},
	} {
		key := session.ForeignKey(c[0], c[1])
		if key.Bucket != 0 || key.IsZero() {
			t.Errorf("ForeignKey(%q, %.20q) has bucket %d, or is zero", c[0], c[1], key.Bucket)
		}
		if key != session.ForeignKey(c[0], c[1]) {
			t.Errorf("ForeignKey(%q, %.20q) differs from time to time", c[0], c[1])
		}
		if other, ok := seen[key]; ok {
			t.Errorf("ForeignKey(%q) = ForeignKey(%q)", c, other)
		}
		seen[key] = c
	}
	// The keys of sessions that are stored already must not change. This is what
	// sha256sum says of "sojourn:3:scs:token".
	if got, want := session.ForeignKey("scs", "token").String(), "1dce9c6df820739fb0554c7183d75e93"; got != want {
		t.Errorf("ForeignKey is %s; want %s", got, want)
	}
}

func TestKeysAreOrderedByBucketThenHash(t *testing.T) {
	t.Parallel()
	key := func(bucket int32, hash ...byte) session.Key {
		k := session.Key{Bucket: bucket}
		copy(k.Hash[:], hash)
		return k
	}
	ordered := []session.Key{key(-1, 9), key(0), key(0, 1), key(1), key(1, 0, 1), key(1, 1), key(1, 255), key(math.MaxInt32)}
	for i, a := range ordered {
		for j, b := range ordered {
			if got, want := a.Compare(b), min(max(i-j, -1), 1); got != want {
				t.Errorf("Compare of %d and %d = %d; want %d", i, j, got, want)
			}
		}
	}
	shuffled := slices.Clone(ordered)
	slices.Reverse(shuffled)
	slices.SortFunc(shuffled, session.Key.Compare)
	if !slices.Equal(shuffled, ordered) {
		t.Error("sorting by Compare does not give the order")
	}
}

func TestAKeyPrintsHalfItsHash(t *testing.T) {
	t.Parallel()
	key := session.NewID(noon).Key()
	want := fmt.Sprintf("%x", key.Hash[:16])
	for _, got := range []string{key.String(), fmt.Sprint(key), fmt.Sprintf("<%s>", key)[1:33], fmt.Sprintf("%v", []session.Key{key})[1:33]} {
		if got != want {
			t.Errorf("the key prints as %s; want %s", got, want)
		}
	}
}

func TestErrorsAreDistinctAndNamed(t *testing.T) {
	t.Parallel()
	all := []error{
		session.ErrNotFound, session.ErrExists, session.ErrConflict, session.ErrUserChanged, session.ErrUserLimit, session.ErrDeadline,
		session.ErrTooLarge, session.ErrInvalid, session.ErrInvalidID, session.ErrUnknown, session.ErrNoPartition, session.ErrClosed,
	}
	for i, a := range all {
		if !strings.HasPrefix(a.Error(), "session: ") {
			t.Errorf("%q does not name its package", a)
		}
		for j, b := range all {
			if got := errors.Is(fmt.Errorf("store: get: %w", a), b); got != (i == j) {
				t.Errorf("errors.Is(%v, %v) = %v", a, b, got)
			}
		}
	}
}
