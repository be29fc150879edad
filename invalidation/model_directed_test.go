package invalidation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// These scenarios are the shortest way to one mistake each. The model meets
// some of them seldom, or not at all.

// scene is a Cache with a clock that the test moves.
type scene struct {
	*Cache
	t     *testing.T
	clock Instant
	tick  func() // done once, when the clock is read the next time
}

var (
	sceneServer = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	errScene    = errors.New("the connection is lost")
)

// newScene returns a cache that listens and holds a lease.
func newScene(t *testing.T, opts CacheOptions) *scene {
	t.Helper()
	s := &scene{t: t, clock: Instant{Wall: 1000 * time.Hour}}
	opts.Clock = func() Instant {
		if do := s.tick; do != nil {
			s.tick = nil
			do()
		}
		return s.clock
	}
	c, err := NewCache(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Cache = c
	s.listen()
	s.prove()
	return s
}

func (s *scene) listen() {
	s.t.Helper()
	if err := s.Listening(sceneServer); err != nil {
		s.t.Fatal(err)
	}
}

// prove sends a heartbeat that comes back at once.
func (s *scene) prove() { s.Receive(s.Beat(modelLease).Payload()) }

// pass lets time pass by both clocks.
func (s *scene) pass(d time.Duration) { s.clock = s.clock.add(d) }

// stay lets time pass while heartbeats come back.
func (s *scene) stay(d time.Duration) {
	for ; d > 0; d -= modelBeat {
		s.pass(min(d, modelBeat))
		s.prove()
	}
}

func sceneKey(i int) session.Key {
	k := session.Key{Bucket: 7}
	k.Hash[0], k.Hash[31] = byte(i), byte(i)
	return k
}

// sceneRow is a session of ada that lives for a minute.
func sceneRow(i int, version int64) Row {
	return Row{Life: time.Minute, Record: session.Record{
		Key: sceneKey(i), Version: version, User: "ada", Data: fmt.Append(nil, version),
		Created: sceneServer, Expires: sceneServer.Add(time.Minute), Deadline: sceneServer.Add(time.Hour),
	}}
}

func (s *scene) fill(rows ...Row) {
	for _, r := range rows {
		s.Fill(s.Reserve(r.Record.Key), r)
	}
}

// wantVersion wants the version from the cache; 0 is a miss.
func (s *scene) wantVersion(i int, want int64) {
	s.t.Helper()
	if got, _ := s.Get(sceneKey(i)); got.Record.Version != want {
		s.t.Errorf("session %d: got version %d from the cache, want %d", i, got.Record.Version, want)
	}
}

// other is the name of another node.
func (s *scene) other() Sender { return newSender() }

func TestDirectedALateEchoProvesNoMoreThanItsHeartbeat(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	s.fill(sceneRow(1, 1))
	h := s.Beat(modelLease)
	// The session ends elsewhere; the message is stuck behind the echo.
	s.pass(modelLease - time.Millisecond)
	s.Receive(h.Payload())
	s.wantVersion(1, 1)
	s.pass(2 * time.Millisecond)
	s.wantVersion(1, 0)
}

func TestDirectedAnEchoThatIsOlderThanTheLeaseProvesNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	s.fill(sceneRow(1, 1))
	h := s.Beat(modelLease)
	s.pass(modelLease + time.Millisecond)
	s.Receive(h.Payload())
	s.wantVersion(1, 0)
}

func TestDirectedAFillOfBeforeAMessageIsRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	for name, message := range map[string]string{
		"key": s.other().Keys(sceneKey(1))[0], "user": s.other().User("ada"), "all": s.other().All(), "unknown": "9",
	} {
		ticket := s.Reserve(sceneKey(1))
		s.Receive(message)
		s.prove()
		s.Fill(ticket, sceneRow(1, 1))
		if _, ok := s.Get(sceneKey(1)); ok {
			t.Errorf("%s: what was read before the message is served after it", name)
		}
	}
}

func TestDirectedAFillThatOutlivesAGapIsRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	ticket := s.Reserve(sceneKey(1))
	s.Gap(CauseDisconnect, errScene)
	silent := s.Reserve(sceneKey(2))
	s.listen()
	s.prove()
	s.Fill(ticket, sceneRow(1, 1))
	s.Fill(silent, sceneRow(2, 1))
	s.wantVersion(1, 0)
	s.wantVersion(2, 0)
}

func TestDirectedAnOlderRowNeverReplacesANewerOne(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	slow, slower := s.Reserve(sceneKey(1)), s.Reserve(sceneKey(1))
	s.fill(sceneRow(1, 2))
	s.Fill(slow, sceneRow(1, 1))
	s.wantVersion(1, 2)

	later := sceneServer.Add(5 * time.Minute)
	if got, ok := s.Extend(sceneKey(1), later); !ok || !got.Equal(later) {
		t.Fatalf("Extend = %v, %v; want %v", got, ok, later)
	}
	s.Fill(slower, sceneRow(1, 2)) // read before the touch
	if got, ok := s.Get(sceneKey(1)); !ok || !got.Record.Expires.Equal(later) {
		t.Errorf("it expires at %v (%v), want %v", got.Record.Expires, ok, later)
	}
}

func TestDirectedAnEntryIsNotExtendedIntoALaterEpoch(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	s.fill(sceneRow(1, 1))
	s.tick = func() { // after Extend has begun
		s.Gap(CauseDisconnect, errScene)
		s.listen()
	}
	s.Extend(sceneKey(1), sceneServer.Add(5*time.Minute))
	s.prove()
	s.wantVersion(1, 0)
}

func TestDirectedAnOwnWriteOfUnknownOutcomeMayBeCommittedLater(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	message := s.Sender().Keys(sceneKey(1))[0]
	w := s.Begin(sceneKey(1))
	s.Disown() // the answer is lost
	w.End()
	s.fill(sceneRow(1, 1)) // it is still live
	s.wantVersion(1, 1)
	s.Receive(message) // it was committed after all
	s.wantVersion(1, 0)
}

func TestDirectedNobodyJoinsAReadOfBeforeAnOwnClearWhileNobodyListens(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	s.Gap(CauseDisconnect, errScene)
	first, mine := s.Join(sceneKey(1))
	if !mine {
		t.Fatal("a read was under way")
	}
	if f, mine := s.Join(sceneKey(1)); mine || f != first {
		t.Error("the read was not joined")
	}
	s.BeginAll()
	if _, mine := s.Join(sceneKey(1)); !mine {
		t.Error("a read of before the end of all sessions was joined after it")
	}
}

func TestDirectedAClockThatIsSetBackDoesNotHideALaterSuspension(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	row := sceneRow(1, 1)
	row.Life = 10 * time.Second
	s.fill(row)
	s.clock.Wall -= time.Minute
	s.pass(modelBeat)
	s.prove()
	s.clock.Wall += 30 * time.Second // suspended; the session expires
	s.stay(modelLease)
	s.wantVersion(1, 0)
}

func TestDirectedHeartbeatsOfOthersProveNothing(t *testing.T) {
	t.Parallel()
	one, two := newScene(t, CacheOptions{}), newScene(t, CacheOptions{})
	one.fill(sceneRow(1, 1))
	one.Gap(CauseDisconnect, errScene)
	two.Gap(CauseDisconnect, errScene)
	one.listen()
	former := one.Beat(modelLease) // the first of its connection
	one.Gap(CauseDisconnect, errScene)
	one.listen()
	two.listen()
	one.fill(sceneRow(1, 1))
	foreign := two.Beat(modelLease)
	one.Beat(modelLease) // does not come back
	for name, payload := range map[string]string{
		"of another node": foreign.Payload(), "of a former connection": former.Payload(), "of nobody": Heartbeat{}.Payload(),
	} {
		one.Receive(payload)
		if _, ok := one.Get(sceneKey(1)); ok {
			t.Errorf("a heartbeat %s was taken for an own one", name)
		}
	}
}

func TestDirectedAnOwnWriteIsKeptUnlessSomebodyElseHasWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		after func(s *scene)
		want  int64
	}{
		{"nothing else", func(*scene) {}, 2},
		{"its own message", func(s *scene) { s.Receive(s.Sender().Keys(sceneKey(1))[0]) }, 2},
		{"another node's write", func(s *scene) { s.Receive(s.other().Keys(sceneKey(1))[0]) }, 0},
		{"another node's end of the user's sessions", func(s *scene) { s.Receive(s.other().User("ada")) }, 0},
		{"another node's end of all sessions", func(s *scene) { s.Receive(s.other().All()) }, 0},
		{"another own write that goes on", func(s *scene) { s.Begin(sceneKey(1)) }, 0},
		{"another own write that is over", func(s *scene) { s.Begin(sceneKey(1)).End() }, 0},
		{"an own end of the user's sessions", func(s *scene) { s.BeginUser("ada") }, 0},
		{"an own end of all sessions", func(s *scene) { s.BeginAll() }, 0},
		{"a gap", func(s *scene) { s.Gap(CauseDisconnect, errScene); s.listen(); s.prove() }, 0},
		{"an old row that is read meanwhile", func(s *scene) { s.fill(sceneRow(1, 1)) }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, CacheOptions{})
			s.fill(sceneRow(1, 1))
			w := s.Begin(sceneKey(1))
			s.wantVersion(1, 0)
			stale := s.Reserve(sceneKey(1))
			c.after(s)
			w.Wrote(sceneRow(1, 2))
			s.wantVersion(1, c.want)
			s.Fill(stale, sceneRow(1, 1))
			s.wantVersion(1, c.want)
		})
	}
}

func TestDirectedWhatIsReadWhileAnOwnWriteGoesOnIsNotKept(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(s *scene) *Write{
		"of its key": func(s *scene) *Write { return s.Begin(sceneKey(1)) },
		"of several": func(s *scene) *Write { return s.Begin(sceneKey(2), sceneKey(1)) },
		"of a key that it finds out about": func(s *scene) *Write {
			w := s.Begin()
			w.Add(sceneKey(1))
			return w
		},
		"of its user": func(s *scene) *Write { return s.BeginUser("ada") },
		"of all":      func(s *scene) *Write { return s.BeginAll() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, CacheOptions{})
			s.fill(sceneRow(1, 1))
			w := begin(s)
			own := []string{s.Sender().Keys(sceneKey(1))[0], s.Sender().User("ada"), s.Sender().All()}
			check := func(when string) {
				t.Helper()
				s.fill(sceneRow(1, 1)) // read before the commit
				if _, ok := s.Get(sceneKey(1)); ok {
					t.Errorf("%s: what was read meanwhile is served", when)
				}
				if _, ok := s.Extend(sceneKey(1), sceneServer.Add(time.Hour)); ok {
					t.Errorf("%s: what was read meanwhile is extended", when)
				}
			}
			check("before the commit")
			before := s.Reserve(sceneKey(1))
			for _, payload := range own {
				s.Receive(payload)
			}
			check("after its message")
			other := begin(s)
			other.End()
			other.End() // says it once
			check("after the end of another one")
			s.Gap(CauseDisconnect, errScene)
			s.listen()
			s.prove()
			check("after a gap")
			s.Receive("9")
			s.prove()
			check("after a flush")
			w.End()
			s.Fill(before, sceneRow(1, 1))
			s.wantVersion(1, 0)
			s.fill(sceneRow(1, 2))
			s.wantVersion(1, 2)
		})
	}
}

func TestDirectedNothingIsKeptOfAWriteThatIsOver(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	for range 3 {
		one, two := s.Begin(sceneKey(1), sceneKey(1), sceneKey(2)), s.Begin(sceneKey(1))
		user, all := s.BeginUser("ada"), s.BeginAll()
		two.Wrote(sceneRow(1, 1))
		for _, w := range []*Write{all, user, one, two} {
			w.End()
		}
	}
	writes := 0
	for i := range s.stripes {
		writes += len(s.stripes[i].writes)
	}
	if writes+len(s.userWrites.open)+s.lease.clears != 0 {
		t.Errorf("%d keys, %v users and %d ends of all are kept", writes, s.userWrites.open, s.lease.clears)
	}
}

func TestDirectedAMessageOfSeveralKeysTakesOutAll(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	s.fill(sceneRow(1, 1), sceneRow(2, 1), sceneRow(3, 1), sceneRow(4, 1))
	s.Receive(s.other().Keys(sceneKey(1), sceneKey(2), sceneKey(3))[0])
	for i, want := range []int64{1: 0, 0, 0, 1} {
		if i > 0 {
			s.wantVersion(i, want)
		}
	}
}

// Two saves are made of what a session was before a crash: the first is undone
// by it, and the second acknowledged. A request that has read the first must not
// overwrite the second.
func TestDirectedAVersionThatACrashUndidIsNotGivenAgain(t *testing.T) {
	t.Parallel()
	s := &sim{rng: rand.New(rand.NewPCG(1, 2))}
	(&simCaches{}).join(s, 2)
	a, b := s.nodes[0], s.nodes[1]
	r := s.db.create(s.db.newKey(), "ada", time.Hour, time.Hour)
	s.db.unflushed = nil
	before := a.basis(r)
	if !a.replace(r, before, 0) {
		t.Fatal("the first save was refused")
	}
	undone := b.basis(r)
	s.db.crash()
	if !a.replace(r, before, 0) {
		t.Fatal("the second save was refused")
	}
	s.db.unflushed = nil
	if b.replace(r, undone, 0) || s.failure != "" {
		t.Error("a save that goes by what was undone has overwritten one that was acknowledged:", s.failure)
	}
}
