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
func (t *tx) Admit(user string, alone bool) (now time.Time, err error) {
	q := shareStripe
	if alone {
		q = takeStripe
	}
	locked, now, err := t.lockStripes(one(q), stripeOf(user))
	if err == nil && len(locked) == 0 {
		// It would lock nothing, and a limit would not hold.
		err = fmt.Errorf("%w: a lock of the users is gone: call Up of migrations/mysql", ErrDamaged)
	}
	return now, err
}

// shareStripes shares those of some stripes that nobody holds alone, and returns
// them with the time after that.
func (t *tx) shareStripes(of []int64) (shared []int64, now time.Time, err error) {
	if len(of) > 0 {
		var args []any
		for i := range sizeFor(len(of)) {
			args = append(args, of[min(i, len(of)-1)])
		}
		shared, now, err = t.lockStripes(text{shareStripes, len(args)}, args...)
	}
	if err == nil && len(shared) == 0 {
		now, err = t.Now()
	}
	return shared, now, err
}

func (t *tx) lockStripes(q text, args ...any) (locked []int64, now time.Time, err error) {
	sent := time.Now()
	err = t.query(t.ctx, q, func(v []driver.Value) error {
		scan := scanner(v)
		now = scan.Time()
		locked = append(locked, scan.Number())
		return scan.Err
	}, args...)
	switch {
	case err != nil || len(locked) == 0:
		return nil, now, err
	case !t.instant:
		now, err = t.Now()
		return locked, now, err
	}
	t.s.clock.observe(sent, now, time.Now())
	return locked, now, nil
}
