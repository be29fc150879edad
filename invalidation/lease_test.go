package invalidation

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func TestClocksAreOnlyTrustedWhileTheyAgree(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	start := Instant{Mono: time.Hour, Wall: 1000 * time.Hour}
	for _, c := range []struct {
		name            string
		mono, wall      time.Duration // since start
		recent, reached bool          // by limit
		jumped          bool
	}{
		{"at once", 0, 0, true, false, false},
		{"just before the limit", limit - 1, limit - 1, true, false, false},
		{"at the limit", limit, limit, true, true, false},
		{"after the limit", limit + 1, limit + 1, false, true, false},
		{"monotonic beyond", limit + 1, limit, false, true, false},
		{"wall beyond", limit, limit + 1, false, true, false},
		{"suspended", time.Second, time.Minute, false, true, true},
		{"suspended for less than the limit", time.Second, limit, true, true, true},
		{"set back", time.Second, -time.Minute, false, false, true},
		{"set back by what is allowed", time.Second, time.Second - clockSlack, true, false, false},
		{"set back by a little more", time.Second, time.Second - clockSlack - 1, false, false, true},
		{"set forward by what is allowed", time.Second, time.Second + clockSlack, true, false, false},
		{"set forward by a little more", time.Second, time.Second + clockSlack + 1, true, false, true},
	} {
		now := Instant{start.Mono + c.mono, start.Wall + c.wall}
		if got := start.recent(now, limit); got != c.recent {
			t.Errorf("%s: recent is %v, want %v", c.name, got, c.recent)
		}
		if got := start.add(limit).reached(now); got != c.reached {
			t.Errorf("%s: reached is %v, want %v", c.name, got, c.reached)
		}
		if got := start.jumped(now); got != c.jumped {
			t.Errorf("%s: jumped is %v, want %v", c.name, got, c.jumped)
		}
	}
}

func TestTheSystemsClocksAgree(t *testing.T) {
	t.Parallel()
	now := systemClock()
	one := now()
	two := now()
	if two.Mono < one.Mono || two.Wall <= 0 || !one.recent(two, time.Hour) {
		t.Errorf("got %+v, then %+v", one, two)
	}
}

func TestNothingIsAnsweredBeforeAHeartbeatHasComeBack(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	s.Gap(CauseDisconnect, errScene)
	s.fill(sceneRow(1, 1))
	s.prove()
	s.wantVersion(1, 0) // nobody listens
	s.listen()
	s.fill(sceneRow(1, 1))
	s.wantVersion(1, 0) // nothing has come back
	s.prove()
	s.wantVersion(1, 1)
}

func TestOnLeaseIsToldWhenTheCacheBeginsToAnswerAndWhenItStops(t *testing.T) {
	t.Parallel()
	var changes []LeaseChange
	s := newScene(t, CacheOptions{OnLease: func(change LeaseChange) { changes = append(changes, change) }})
	want := func(step string, held bool, cause error) {
		t.Helper()
		if len(changes) != 1 || changes[0].Held != held || !errors.Is(changes[0].Err, cause) {
			t.Errorf("%s: got %+v, want held %v, cause %v", step, changes, held, cause)
		}
		changes = nil
	}
	quiet := func(step string) {
		t.Helper()
		if len(changes) != 0 {
			t.Errorf("%s: got %+v", step, changes)
		}
	}
	want("the first echo", true, nil)
	s.prove()
	s.Check()
	quiet("the second echo")
	s.Receive(s.other().All())
	quiet("the end of all sessions")
	s.pass(modelLease + 1)
	s.Check()
	want("no echo", false, ErrLapsed)
	s.Check()
	quiet("again")
	s.prove()
	want("an echo", true, nil)
	s.Receive("unknown")
	if len(changes) != 1 || changes[0].Held || changes[0].Err == nil {
		t.Errorf("an unknown payload: got %+v", changes)
	}
	changes = nil
	s.prove()
	want("an echo", true, nil)
	s.clock.Wall += time.Second
	s.Check()
	want("a clock that is set", false, errClocks)
	s.prove()
	want("an echo", true, nil)
	s.Gap(CauseSilence, errScene)
	want("a gap", false, errScene)
	s.Gap(CauseSilence, errScene)
	quiet("another gap")
}

func TestAnUnknownPayloadEmptiesTheCacheAndKeepsListening(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "2k", "1z" + goldenSender.All()[2:], "1k\n", "hello"} {
		s := newScene(t, CacheOptions{})
		s.fill(sceneRow(1, 1))
		h := s.Beat(modelLease)
		s.Receive(text)
		s.wantVersion(1, 0)
		s.Receive(h.Payload())
		s.wantVersion(1, 0) // it is gone, though the lease is back
		s.fill(sceneRow(1, 1))
		s.wantVersion(1, 1)
		if got := s.Stats().UnknownPayloads; got != 1 {
			t.Errorf("%q: counted %d times, want once", text, got)
		}
	}
}

func TestAClockThatJumpsEmptiesTheCache(t *testing.T) {
	t.Parallel()
	for name, notice := range map[string]func(s *scene){
		"Check": func(s *scene) { s.Check() },
		"echo":  func(*scene) {},
	} {
		for _, by := range []time.Duration{-time.Hour, -time.Second, time.Second, time.Hour} {
			s := newScene(t, CacheOptions{})
			s.fill(sceneRow(1, 1))
			s.clock.Wall += by
			notice(s)
			s.prove()
			s.wantVersion(1, 0)
			s.fill(sceneRow(1, 1))
			s.wantVersion(1, 1)
			if got := s.Stats().ClockJumps; got != 1 {
				t.Errorf("%s, %v: %d jumps, want 1", name, by, got)
			}
		}
	}
}

func TestMaintenanceMessagesAreReported(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	s.fill(sceneRow(1, 1))
	for text, want := range map[string]bool{
		s.other().Partitions(): true, s.Sender().Partitions(): true, s.other().Keys(sceneKey(9))[0]: false,
	} {
		if got, err := s.Receive(text); got != want || err != nil {
			t.Errorf("%s: got %v, %v; want %v", text, got, err, want)
		}
	}
	s.wantVersion(1, 1)
}

func TestASilentConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	unsent := s.Beat(modelLease)
	s.pass(modelLease + 1)
	if s.Silent() {
		t.Error("a heartbeat that was never committed counts as missing")
	}
	late := s.Beat(modelLease)
	s.Committed(late)
	s.pass(modelLease)
	if s.Silent() {
		t.Error("it counts as missing before the lease is over")
	}
	s.pass(1)
	if !s.Silent() {
		t.Error("a committed heartbeat does not come back, and nobody notices")
	}
	s.Receive(late.Payload())
	s.Committed(unsent) // forgotten: a later one has come back
	if s.Silent() {
		t.Error("it came back")
	}
	s.Committed(s.Beat(modelLease))
	s.Gap(CauseDisconnect, errScene)
	s.listen()
	s.pass(modelLease + 1)
	if s.Silent() {
		t.Error("a heartbeat of an earlier connection is waited for")
	}
}

func TestHeartbeatsThatNeverComeBackDoNotPileUp(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	for range 10 * maxBeats {
		s.Beat(modelLease)
	}
	if got := len(s.lease.beats); got != maxBeats {
		t.Errorf("%d heartbeats are kept, want %d", got, maxBeats)
	}
	s.prove()
	if got := len(s.lease.beats); got != 0 {
		t.Errorf("%d heartbeats are kept after the newest has come back", got)
	}
}

func TestEchoesAreCountedByTheTimeTheyTake(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	s.prove()
	h := s.Beat(modelLease)
	s.pass(3 * time.Millisecond)
	s.Receive(h.Payload())
	h = s.Beat(modelLease)
	s.pass(time.Hour)
	s.Receive(h.Payload())
	want := [len(session.EchoTimes) + 1]uint64{0: 2, 4: 1, len(session.EchoTimes): 1}
	if got := s.Stats().Echoes; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTheAgeOfALeaseThatIsNotThereIsTheWorst(t *testing.T) {
	t.Parallel()
	fresh, err := NewCache(CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := newScene(t, CacheOptions{})
	check := func(when string, c *Cache, leased bool) {
		t.Helper()
		got := c.Stats()
		if got.Leased != leased || leased != (got.LeaseAge <= modelLease) || !leased && got.LeaseAge != math.MaxInt64 {
			t.Errorf("%s: Leased is %v and LeaseAge %v", when, got.Leased, got.LeaseAge)
		}
	}
	check("before anything has come in", fresh, false)
	check("with a lease", s.Cache, true)
	s.pass(modelLease)
	check("at its end", s.Cache, true)
	s.pass(1)
	check("after its end", s.Cache, false)
	s.Check()
	check("when that was noticed", s.Cache, false)
	s.prove()
	check("with a lease again", s.Cache, true)
	s.BeginAll().End()
	check("after the end of all sessions", s.Cache, true)
	s.Gap(CauseDisconnect, errScene)
	check("in a gap", s.Cache, false)
	s.listen()
	check("without a heartbeat", s.Cache, false)
}

func TestHeartbeatsThatDoNotComeBackAreCounted(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	committed := func() Heartbeat {
		h := s.Beat(modelLease)
		s.Committed(h)
		return h
	}
	lost := func(when string, want uint64) {
		t.Helper()
		if got := s.Stats().LostEchoes; got != want {
			t.Errorf("%s: %d are lost, want %d", when, got, want)
		}
	}
	s.Receive(committed().Payload())
	s.Beat(modelLease) // which fails
	lost("one came back", 0)
	committed()
	s.Receive(committed().Payload())
	lost("one was overtaken", 1)
	committed()
	lost("one is under way", 1)
	s.Gap(CauseDisconnect, errScene)
	lost("after a gap", 2)
	s.listen()
	for range maxBeats + 3 {
		committed()
	}
	lost("too many are under way", 5)
}
