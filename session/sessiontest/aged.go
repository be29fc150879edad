package sessiontest

import (
	"math/rand/v2"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

// Of what becomes of sessions in days and weeks.

func agedCases() []testCase {
	return []testCase{
		{name: "an expired session stays dead until its deadline", own: true, run: agedExpired},
		{name: "a renewed key leads on when what it was renewed to is long gone", own: true, run: agedMiddle},
		{name: "destroying any key of a chain ends its head until that key's deadline", own: true, run: agedChains},
	}
}

const day = 24 * time.Hour

// age makes the store older and moves recs along.
func (e *env) age(d time.Duration, recs ...*session.Record) {
	e.Helper()
	e.h.Age(e.T, e.s, d)
	for _, rec := range recs {
		if rec.Key.Bucket != 0 {
			rec.Key.Bucket -= int32(d / time.Hour)
		}
		rec.Deadline, rec.Expires = rec.Deadline.Add(-d), rec.Expires.Add(-d)
	}
}

func (e *env) needAge() {
	if e.h.Age == nil {
		e.Skip("Harness.Age is nil")
	}
}

func agedExpired(e *env) {
	e.needAge()
	for _, rec := range []session.Record{e.record(), e.foreign()} {
		if rec.Deadline = e.now().Add(10 * day); rec.Key.Bucket != 0 {
			rec.Key = session.NewID(rec.Deadline).Key()
		}
		rec.User, rec.Expires = e.unique("user"), e.now().Add(time.Hour)
		rec = e.create(rec)
		e.age(5*day, &rec)
		e.staysDead(rec)
		if has(e.s, Explainer) {
			e.fate(rec.Key, session.FateExpired)
		}
		_, err := e.s.Create(e.ctx, e.reborn(rec))
		e.refused("Create of an expired key", err, session.ErrExists)
		if p, ok := e.s.(session.Putter); ok {
			_, err := p.Put(e.ctx, e.reborn(rec))
			e.refused("Put of an expired key", err, session.ErrNotFound)
		}
		e.gone(rec.Key)
	}
}

// reborn is a session to be that has the key and deadline of a dead one.
func (e *env) reborn(rec session.Record) session.Record {
	return session.Record{Key: rec.Key, Deadline: rec.Deadline, User: rec.User, Data: []byte("again")}
}

// renewUntil renews old to a session with that deadline.
func (e *env) renewUntil(old session.Record, deadline time.Time, foreign bool, grace time.Duration) session.Record {
	e.Helper()
	next := e.recordUntil(deadline)
	if foreign {
		next.Key = session.ForeignKey("sessiontest", e.unique(private))
	}
	next.Version, next.User = old.Version, old.User
	got, err := e.s.Renew(e.ctx, old.Key, next, grace)
	if err != nil {
		e.Fatalf("Renew: %v", err)
	}
	return got
}

func agedMiddle(e *env) {
	e.needAge()
	for _, foreign := range []bool{false, true} {
		for _, end := range []string{"Destroy", "Destroy of all keys", "DestroyUser"} {
			a := e.recordUntil(e.now().Add(20 * day))
			if foreign {
				a.Key = session.ForeignKey("sessiontest", e.unique(private))
			}
			a.User = e.unique("user")
			a = e.create(a)
			b := e.renewUntil(a, e.now().Add(day), foreign, time.Hour)
			c := e.renewUntil(b, e.now().Add(25*day), foreign, 0)
			e.age(5*day, &a, &b, &c)
			e.live(c.Key)
			switch end {
			case "Destroy":
				e.destroy(1, a.Key)
			case "Destroy of all keys":
				e.destroy(1, b.Key, a.Key, c.Key)
			case "DestroyUser":
				users, ok := e.s.(session.UserIndex)
				if !ok {
					continue
				}
				if n, err := users.DestroyUser(e.ctx, a.User); n != 1 || err != nil {
					e.Errorf("DestroyUser = %d, %v; want 1, nil", n, err)
				}
			}
			for _, rec := range []session.Record{a, b, c} {
				e.gone(rec.Key)
			}
			e.destroy(0, a.Key, b.Key, c.Key)
			if has(e.s, Explainer) {
				e.fate(a.Key, session.FateRenewed)
				e.fate(b.Key, session.FateRenewed, session.FateUnknown)
				e.fate(c.Key, session.FateEnded)
			}
		}
	}
}

// agedChains renews sessions to others with deadlines at random while days go
// by. In the end each key whose deadline has not passed stands for the last one.
func agedChains(e *env) {
	e.needAge()
	const times, step = 4, 3 * day
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	e.Logf("seed %d", seed)
	until := func() time.Time { return e.now().Add(step + time.Duration(1+rng.IntN(24))*day) }
	all := make([][]*session.Record, rounds.Of(32))
	var recs []*session.Record
	add := func(i int, rec session.Record) {
		all[i] = append(all[i], &rec)
		recs = append(recs, &rec)
	}
	for i := range all {
		rec := e.recordUntil(until())
		if i%4 == 0 {
			rec.Key = session.ForeignKey("sessiontest", e.unique(private))
		}
		rec.User = e.unique("user")
		add(i, e.create(rec))
	}
	for range times {
		for i := range all {
			head := func() *session.Record { return all[i][len(all[i])-1] }
			n := rng.IntN(3)
			if head().Deadline.Before(e.now().Add(step + time.Hour)) { // it would not live to see the next round
				n = max(n, 1)
			}
			for range n {
				grace := time.Duration(rng.IntN(2)) * time.Hour
				add(i, e.renewUntil(*head(), until(), rng.IntN(4) == 0, grace))
			}
		}
		e.age(step, recs...)
	}
	for i, chain := range all {
		head := chain[len(chain)-1]
		e.live(head.Key)
		var stand []*session.Record
		for _, rec := range chain {
			if rec.Deadline.After(e.now()) {
				stand = append(stand, rec)
			}
		}
		by := stand[rng.IntN(len(stand))]
		if n, err := e.s.Destroy(e.ctx, by.Key); n != 1 || err != nil {
			e.Errorf("chain %d: Destroy = %d, %v; want 1, nil", i, n, err)
			for _, rec := range chain {
				e.Logf("%v, bucket %d, until %v%s", rec.Key, rec.Key.Bucket, rec.Deadline, map[bool]string{true: ", destroyed"}[rec == by])
			}
		}
		for _, rec := range chain {
			e.gone(rec.Key)
		}
	}
}
