package mysqlstore

import (
	"database/sql/driver"
	"fmt"
	"hash/fnv"
	"time"
)

// stripes is how many locks the users share.
const stripes = 256

// stripeOf is the lock that a transaction which creates or renews a session of
// user holds, shared, until it is committed. A transaction that holds the lock
// alone therefore sees all sessions of the user, and none can be added.
func stripeOf(user string) int64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(user)) // which does not fail
	return int64(h.Sum32() % stripes)
}

// Admit takes the user's stripe, or shares it.
func (t *tx) Admit(user string, alone bool) (time.Time, error) {
	if alone {
		return t.lockStripes(1, one(takeStripe), stripeOf(user))
	}
	return t.shareStripes([]int64{stripeOf(user)})
}

// shareStripes shares stripes, which are sorted and different. It waits until nobody holds
// one of them alone, and returns the time after that.
func (t *tx) shareStripes(of []int64) (now time.Time, err error) {
	if len(of) == 0 {
		return t.Now()
	}
	var args []any
	for i := range sizeFor(len(of)) {
		args = append(args, of[min(i, len(of)-1)])
	}
	return t.lockStripes(len(of), text{shareStripes, len(args)}, args...)
}

// lockStripes locks so many rows. A row that is not there locks nothing: then a
// limit would not hold.
func (t *tx) lockStripes(want int, q text, args ...any) (now time.Time, err error) {
	sent, locked := time.Now(), 0
	err = t.query(t.ctx, q, func(v []driver.Value) error {
		locked++
		scan := scanner(v)
		now = scan.Time()
		return scan.Err
	}, args...)
	switch {
	case err != nil:
		return now, err
	case locked != want:
		return now, fmt.Errorf("%w: %d of %d locks of the users are gone: call Up of migrations/mysql", ErrDamaged, want-locked, want)
	case !t.instant:
		return t.Now()
	}
	t.s.clock.observe(sent, now, time.Now())
	return now, nil
}
