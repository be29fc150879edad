package nodestore

import (
	"database/sql"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// moments are the packages' comparisons of an expiry with their clock, in
// milliseconds.
var moments = map[string]struct{ live, pruned func(expires, now int64) bool }{
	"connect-pg-simple": {
		func(e, now int64) bool { return e >= (now+999)/1000*1000 },
		func(e, now int64) bool { return e < (now+999)/1000*1000 },
	},
	"connect-session-sequelize": { // it serves what is not pruned; Go does not
		func(e, now int64) bool { return e > now },
		func(e, now int64) bool { return e < now },
	},
	"koa-generic-session-sequelize": {
		func(e, now int64) bool { return e/1000 > now/1000 },
		func(e, now int64) bool { return e/1000 <= now/1000 },
	},
	"express-mysql-session": {
		func(e, now int64) bool { return e/1000 >= (now+500)/1000 },
		func(e, now int64) bool { return e/1000 < (now+500)/1000 },
	},
	"@sailscastshq/connect-sqlite": {
		func(e, now int64) bool { return e > now },
		func(e, now int64) bool { return e <= now },
	},
	"connect-session-knex": {
		func(e, now int64) bool { return e >= now },
		func(e, now int64) bool { return e < now },
	},
	"connect-session-knex in whole seconds": { // in MySQL and SQLite
		func(e, now int64) bool { return e/1000 >= now/1000 },
		func(e, now int64) bool { return e/1000 < now/1000 },
	},
	"better-sqlite3-session-store": { // it prunes a second after; Go what is dead
		func(e, now int64) bool { return e/1000 > now/1000 },
		func(e, now int64) bool { return e/1000 <= now/1000 },
	},
}

func TestTheMomentOfExpiryIsThePackages(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		ctx := t.Context()
		clock := newTestClock(frozen)
		s := openOn(t, db, l, created(quietly), clock.now)
		rule := moments[l.Package]
		switch {
		case l.JSONB:
			rule = moments["connect-pg-simple"]
		case l.Package == "connect-session-knex" && l.Dialect != Postgres:
			rule = moments["connect-session-knex in whole seconds"]
		}
		for _, after := range []time.Duration{-1001, -1000, -999, -501, -500, -499, -1, 0, 1, 499, 500, 501, 999, 1000, 1001} {
			clock.ns.Store(frozen.UnixNano())
			e := mustCreate(t, s, "a", doc(frozen, ""))
			clock.ns.Store(e.Expires.Add(after * time.Millisecond).UnixNano())
			expires, now := e.Expires.UnixMilli(), clock.now().UnixMilli()

			_, err := s.Get(ctx, "a")
			if got, want := err == nil, rule.live(expires, now); got != want || err != nil && !errors.Is(err, session.ErrNotFound) {
				t.Errorf("%d ms after its expiry it is live: %v (%v), want %v", after, got, err, want)
			}
			n, err := s.Prune(ctx)
			if got, want := n == 1, rule.pruned(expires, now); got != want || err != nil {
				t.Errorf("%d ms after its expiry it is pruned: %v (%v), want %v", after, got, err, want)
			}
			if _, err := s.Clear(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzRounding compares with the definitions, in numbers of any size.
func FuzzRounding(f *testing.F) {
	f.Add(int64(1893553445678), int64(1893456000123), uint16(1000), uint8(1))
	f.Add(int64(-1), int64(0), uint16(1000), uint8(2))
	f.Add(int64(500), int64(7), uint16(1000), uint8(2))
	f.Add(int64(1500), int64(499), uint16(1000), uint8(3))
	f.Add(int64(2000), int64(0), uint16(1000), uint8(4))
	f.Fuzz(func(t *testing.T, ms, now int64, step uint16, mode uint8) {
		const most = 1 << 52
		ms, now = ms%most, now%most
		r := Rounding{time.Duration(max(step, 1)) * time.Millisecond, RoundMode(mode % 5)}
		got := r.round(time.UnixMilli(ms), time.UnixMilli(now)).UnixMilli()

		from, half := int64(0), int64(0)
		switch r.Mode {
		case RoundLeftUp:
			from = now
		case RoundHalfUp:
			half = 1
		}
		n := big.NewRat(ms-from, r.To.Milliseconds())
		n.Add(n, big.NewRat(half, 2))
		// Div rounds towards negative infinity for a positive divisor.
		down, rest := new(big.Int).DivMod(n.Num(), n.Denom(), new(big.Int))
		if (r.Mode == RoundUp || r.Mode == RoundLeftUp) && rest.Sign() != 0 {
			down.Add(down, big.NewInt(1))
		}
		if r.Mode == RoundNext {
			down.Add(down, big.NewInt(1))
		}
		if want := from + down.Int64()*r.To.Milliseconds(); got != want {
			t.Errorf("%+v of %d at %d is %d, want %d", r, ms, now, got, want)
		}
	})
}
