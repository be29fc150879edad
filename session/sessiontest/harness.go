package sessiontest

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Harness is what the suite needs to know about a store. New and Expire are
// required. Its functions may be called concurrently, and fail the test
// themselves if they cannot do what they are asked to.
type Harness struct {
	// New returns an empty store that shares its data with no other. The suite
	// closes it; cleanups registered by New run after that.
	New func(t testing.TB) session.Store

	// Peer returns another node on the data of s. The suite closes it too. If
	// Peer is nil, s plays both nodes and nothing can be read after a Close.
	Peer func(t testing.TB, s session.Store) session.Store

	// Expire sets the expiry of the live session of key to the store's present
	// time, so that it has just passed when Expire returns; the deadline stays.
	// If nodes cache, none may serve what it cached of the session before.
	Expire func(t testing.TB, s session.Store, key session.Key)

	// Vanish removes every row of key, live or dead, as the retirement of a
	// partition does, and from caches as well.
	Vanish func(t testing.TB, s session.Store, key session.Key)

	// Remains reports whether a row of key, live or dead, has a user or data.
	Remains func(t testing.TB, s session.Store, key session.Key) bool

	// Age makes all that s holds older by d, a whole number of hours: every time
	// moves that far into the past, and every bucket, also those of keys. Then
	// it prunes as the store would have done meanwhile. No other node has read s.
	Age func(t testing.TB, s session.Store, d time.Duration)

	// Hold locks the live session of key as a write under way does: writes to
	// it wait. release ends that; if expire is set, it does first what Expire
	// does, in the same transaction. It is called once.
	Hold func(t testing.TB, s session.Store, key session.Key) (release func(expire bool))

	// Waiting returns how many writers wait for locks of the data of s. It is
	// required with Hold.
	Waiting func(t testing.TB, s session.Store) int

	// Queues says that the store has a queue of writes, which Stats.Queue is about.
	Queues bool

	// Narrow returns another node on the data of s, closed by the suite too, once
	// the limits are the smallest that the store allows: as much for the longest
	// lifetime, at most an hour, as for MaxData and MaxUser, at most 16 bytes.
	// Nodes that run may go on with the limits that they had.
	Narrow func(t testing.TB, s session.Store) session.Store

	// Require names the optional interfaces that the store must have.
	Require []Ability

	// Precision is the smallest step of the times that the store keeps; 0
	// means 1 ns.
	Precision time.Duration

	// Longest, MaxData and MaxUser are the limits of the stores that New
	// makes: the longest lifetime, and the bytes of data and of a user; 0
	// means 30 days, 1 MiB and 255. Longest must be at least a day and MaxUser
	// at least 64.
	Longest          time.Duration
	MaxData, MaxUser int
}

// Ability is the name of an optional interface of package session.
type Ability string

// The optional interfaces.
const (
	Clock       Ability = "Clock"
	Putter      Ability = "Putter"
	Lister      Ability = "Lister"
	Clearer     Ability = "Clearer"
	UserIndex   Ability = "UserIndex"
	Pruner      Ability = "Pruner"
	FreshGetter Ability = "FreshGetter"
	LateToucher Ability = "LateToucher"
	NodeWaiter  Ability = "NodeWaiter"
	Explainer   Ability = "Explainer"
	Statser     Ability = "Statser"
)

func has(s session.Store, a Ability) (ok bool) {
	switch a {
	case Clock:
		_, ok = s.(session.Clock)
	case Putter:
		_, ok = s.(session.Putter)
	case Lister:
		_, ok = s.(session.Lister)
	case Clearer:
		_, ok = s.(session.Clearer)
	case UserIndex:
		_, ok = s.(session.UserIndex)
	case Pruner:
		_, ok = s.(session.Pruner)
	case FreshGetter:
		_, ok = s.(session.FreshGetter)
	case LateToucher:
		_, ok = s.(session.LateToucher)
	case NodeWaiter:
		_, ok = s.(session.NodeWaiter)
	case Explainer:
		_, ok = s.(session.Explainer)
	case Statser:
		_, ok = s.(session.Statser)
	}
	return ok
}

func (h Harness) withDefaults() Harness {
	h.Precision = cmp.Or(h.Precision, time.Nanosecond)
	h.Longest = cmp.Or(h.Longest, 30*24*time.Hour)
	h.MaxData = cmp.Or(h.MaxData, 1<<20)
	h.MaxUser = cmp.Or(h.MaxUser, 255)
	return h
}

// testCase is one promise.
type testCase struct {
	name  string
	needs Ability // skipped without it, unless it is empty
	own   bool    // on a store of its own
	run   func(e *env)
}

// Run tests the stores that h makes, in parallel subtests. Most share one
// store; those that look at all sessions or close it have their own.
func Run(t *testing.T, h Harness) {
	h = h.withDefaults()
	if h.New == nil || h.Expire == nil || (h.Hold == nil) != (h.Waiting == nil) {
		t.Fatal("sessiontest: a Harness needs New and Expire, and Hold and Waiting only together")
	}
	shared := open(t, h)
	for _, a := range h.Require {
		if !has(shared, a) {
			t.Errorf("the store has no %s", a)
		}
	}
	runCases(t, h, shared,
		createCases(), keyCases(), foreignCases(), saveCases(), touchCases(), renewCases(), deadCases(),
		putCases(), userCases(), limitedCases(), listCases(), backgroundCases(), endingCases(), mixedCases(), nodeCases(),
		fateCases(), narrowCases(), agedCases(), manyCases(), heldCases())
}

// runCases runs cases in parallel subtests, on a shared store or one of their own.
func runCases(t *testing.T, h Harness, shared session.Store, groups ...[]testCase) {
	peer := openPeer(t, h, shared)
	for _, c := range slices.Concat(groups...) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.needs != "" && !has(shared, c.needs) {
				t.Skipf("the store has no %s", c.needs)
			}
			e := newEnv(t, h, shared, peer)
			if c.own {
				e = newEnv(t, h, open(t, h), nil)
			}
			c.run(e)
		})
	}
}
