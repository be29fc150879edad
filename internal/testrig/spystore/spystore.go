// Package spystore has a session.Store that hands its calls on to another one,
// counts them, and lets a test come between.
package spystore

import (
	"cmp"
	"context"
	"math"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Call is a method of a store.
type Call string

// The calls that a session.Manager makes. Those of optional interfaces that
// the store lacks are made to what a Manager would call instead.
const (
	Get               Call = "Get"
	GetFresh          Call = "GetFresh"
	Create            Call = "Create"
	Save              Call = "Save"
	Touch             Call = "Touch"
	TouchLater        Call = "TouchLater"
	Renew             Call = "Renew"
	Destroy           Call = "Destroy"
	DestroyOnAllNodes Call = "DestroyOnAllNodes"
	WaitForAllNodes   Call = "WaitForAllNodes"
	ListUser          Call = "ListUser"
	CountUser         Call = "CountUser"
	DestroyUser       Call = "DestroyUser"
	CreateLimited     Call = "CreateLimited"
	RenewLimited      Call = "RenewLimited"
	Len               Call = "Len"
	Keys              Call = "Keys"
	All               Call = "All"
	Fate              Call = "Fate"
)

// Store is a store with a spy. Its methods may be called concurrently.
type Store struct {
	session.Store // the one behind, whose Close it is
	clock         session.Clock

	mu      sync.Mutex
	between func(ctx context.Context, c Call, do func() error) error
	counts  map[Call]int
	longest time.Duration
	ahead   time.Duration
}

var _ interface {
	session.Store
	session.Clock
	session.Lister
	session.UserIndex
	session.FreshGetter
	session.LateToucher
	session.NodeWaiter
	session.Explainer
} = (*Store)(nil)

// On puts a spy before s.
func On(s session.Store) *Store {
	clock, ok := s.(session.Clock)
	if !ok {
		clock = machine{}
	}
	return &Store{Store: s, clock: clock, counts: map[Call]int{}}
}

// Between has f called instead of each call from now on. do makes the call. If
// f returns an error, so does the call, whatever it has done; nil ends that.
func (s *Store) Between(f func(ctx context.Context, c Call, do func() error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.between = f
}

// Shorten has the store say that it keeps sessions for longest at most.
func (s *Store) Shorten(longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = longest
}

// GoAhead has the clock that the store shows be ahead of the one that it goes
// by.
func (s *Store) GoAhead(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = d
}

// Count returns how many of those calls there were, of any kind if none is
// named.
func (s *Store) Count(calls ...Call) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(calls) == 0 {
		for _, count := range s.counts {
			n += count
		}
	}
	for _, c := range calls {
		n += s.counts[c]
	}
	return n
}

func (s *Store) note(c Call) func(context.Context, Call, func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[c]++
	return s.between
}

func call[T any](ctx context.Context, s *Store, c Call, f func() (T, error)) (T, error) {
	between := s.note(c)
	if between == nil {
		return f()
	}
	var out T
	err := between(ctx, c, func() (err error) {
		out, err = f()
		return err
	})
	if err != nil {
		var zero T
		return zero, err
	}
	return out, nil
}

// Get implements session.Store.
func (s *Store) Get(ctx context.Context, key session.Key) (session.Record, error) {
	return call(ctx, s, Get, func() (session.Record, error) { return s.Store.Get(ctx, key) })
}

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, rec session.Record) (session.Record, error) {
	return call(ctx, s, Create, func() (session.Record, error) { return s.Store.Create(ctx, rec) })
}

// Save implements session.Store.
func (s *Store) Save(ctx context.Context, rec session.Record) (session.Record, error) {
	return call(ctx, s, Save, func() (session.Record, error) { return s.Store.Save(ctx, rec) })
}

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	return call(ctx, s, Touch, func() (time.Time, error) { return s.Store.Touch(ctx, key, expires) })
}

// Renew implements session.Store.
func (s *Store) Renew(ctx context.Context, old session.Key, rec session.Record, grace time.Duration) (session.Record, error) {
	return call(ctx, s, Renew, func() (session.Record, error) { return s.Store.Renew(ctx, old, rec, grace) })
}

// Destroy implements session.Store.
func (s *Store) Destroy(ctx context.Context, keys ...session.Key) (int64, error) {
	return call(ctx, s, Destroy, func() (int64, error) { return s.Store.Destroy(ctx, keys...) })
}

// GetFresh implements session.FreshGetter.
func (s *Store) GetFresh(ctx context.Context, key session.Key) (session.Record, error) {
	return call(ctx, s, GetFresh, func() (session.Record, error) {
		if f, ok := s.Store.(session.FreshGetter); ok {
			return f.GetFresh(ctx, key)
		}
		return s.Store.Get(ctx, key)
	})
}

// TouchLater implements session.LateToucher.
func (s *Store) TouchLater(ctx context.Context, key session.Key, expires time.Time) (time.Time, error) {
	return call(ctx, s, TouchLater, func() (time.Time, error) {
		if l, ok := s.Store.(session.LateToucher); ok {
			return l.TouchLater(ctx, key, expires)
		}
		return s.Store.Touch(ctx, key, expires)
	})
}

// WaitForAllNodes implements session.NodeWaiter.
func (s *Store) WaitForAllNodes(ctx context.Context) error {
	_, err := call(ctx, s, WaitForAllNodes, func() (struct{}, error) {
		if waiter, ok := s.Store.(session.NodeWaiter); ok {
			return struct{}{}, waiter.WaitForAllNodes(ctx)
		}
		return struct{}{}, nil
	})
	return err
}

// DestroyOnAllNodes implements session.NodeWaiter.
func (s *Store) DestroyOnAllNodes(ctx context.Context, keys ...session.Key) (int64, error) {
	return call(ctx, s, DestroyOnAllNodes, func() (int64, error) {
		if waiter, ok := s.Store.(session.NodeWaiter); ok {
			return waiter.DestroyOnAllNodes(ctx, keys...)
		}
		return s.Store.Destroy(ctx, keys...)
	})
}

// MaxData implements session.DataLimiter. It is not counted: it asks nobody.
func (s *Store) MaxData() int {
	if l, ok := s.Store.(session.DataLimiter); ok {
		return l.MaxData()
	}
	return 0
}

// Fate implements session.Explainer.
func (s *Store) Fate(ctx context.Context, key session.Key) (session.Fate, error) {
	return call(ctx, s, Fate, func() (session.Fate, error) {
		if t, ok := s.Store.(session.Explainer); ok {
			return t.Fate(ctx, key)
		}
		return session.FateUnknown, nil
	})
}

// Now implements session.Clock.
func (s *Store) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock.Now().Add(s.ahead)
}

// Longest implements session.Clock.
func (s *Store) Longest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.longest, s.clock.Longest())
}

// machine is the clock of a store that has none.
type machine struct{}

func (machine) Now() time.Time { return time.Now().UTC() }

func (machine) Longest() time.Duration { return math.MaxInt64 / 2 }
