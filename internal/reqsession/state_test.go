package reqsession

import (
	"context"
	"errors"
	"testing"
)

var errTest = errors.New("broken on purpose")

func readTo(standing Standing, err error) State {
	var s State
	_ = s.Open(context.Background(), context.Background(), func() error {
		if standing != Usable {
			s.Become(standing)
		}
		return err
	})
	return s
}

func TestASessionIsReadOnce(t *testing.T) {
	t.Parallel()
	var s State
	reads := 0
	for range 2 {
		if err := s.Open(t.Context(), t.Context(), func() error { reads++; return errTest }); err != errTest || !s.Is(Failed) || s.Failure() != errTest {
			t.Errorf("Open: %v, standing %d", err, s.standing)
		}
	}
	if reads != 1 {
		t.Errorf("read %d times", reads)
	}
	if err := s.Read(func() error { return nil }); err != nil || !s.Is(Usable) || s.Failure() != nil {
		t.Errorf("Read: %v, standing %d", err, s.standing)
	}
}

// The table is the package's picture.
func TestStandingsLeadWhereThePictureSays(t *testing.T) {
	t.Parallel()
	saved := func(err error) func(*State) { return func(s *State) { s.Saved(err) } }
	commit := func(err error) func(*State) {
		return func(s *State) { _ = s.Commit(func() error { return err }) }
	}
	for _, tt := range []struct {
		what string
		do   func(*State)
		to   map[Standing]Standing // all others stay
	}{
		{"a Save that fails", saved(errTest), map[Standing]Standing{Usable: Refused}},
		{"a Save that succeeds", saved(nil), map[Standing]Standing{Refused: Usable}},
		{"a new one begins", (*State).Begin, map[Standing]Standing{Unread: Usable, Refused: Usable, Dead: Usable, Gone: Usable, Unset: Usable, Degraded: Usable}},
		{"the request goes on without it", (*State).Recover, map[Standing]Standing{Failed: Usable}},
		{"the answer's save fails", commit(errTest), map[Standing]Standing{Usable: Failed, Gone: Failed, Unset: Failed, Degraded: Failed}},
		{"the answer's save succeeds", commit(nil), nil},
		{"the end", func(s *State) { s.Close() }, nil},
	} {
		for from := Unread; from <= Failed; from++ {
			s := readTo(from, nil)
			switch from {
			case Unread:
				s = State{}
			case Failed:
				s = readTo(Usable, errTest)
			}
			want, moves := tt.to[from]
			if !moves {
				want = from
			}
			if tt.do(&s); s.standing != want {
				t.Errorf("%s, from standing %d: %d, want %d", tt.what, from, s.standing, want)
			}
		}
	}
}

func TestWhatIsSavedBeforeTheAnswerAndAfterIt(t *testing.T) {
	t.Parallel()
	for standing := Unread; standing <= Failed; standing++ {
		s := readTo(standing, nil)
		switch standing {
		case Unread:
			s = State{}
		case Failed:
			s = readTo(Usable, errTest)
		}
		saves := 0
		sealedWhileSaving := false
		err := s.Commit(func() error {
			saves++
			sealedWhileSaving = s.Sealed()
			return nil
		})
		wantSaves := 1
		switch standing {
		case Unread, Refused, Failed:
			wantSaves = 0
		}
		if saves != wantSaves || sealedWhileSaving || (err != nil) != (standing == Failed) {
			t.Errorf("standing %d: saved %d times (sealed: %t), %v", standing, saves, sealedWhileSaving, err)
		}
		if !s.Sealed() || s.Closed() {
			t.Errorf("standing %d: sealed %t, closed %t after the answer has begun", standing, s.Sealed(), s.Closed())
		}
		if may := s.Close(); may != (standing == Usable) || !s.Closed() || !s.Sealed() {
			t.Errorf("standing %d: Close is %t", standing, may)
		}
	}
	// One that ended meanwhile is no failure.
	s := readTo(Usable, nil)
	if err := s.Commit(func() error { s.Become(Dead); return errTest }); err != nil || s.Is(Failed) {
		t.Errorf("a session that ended meanwhile failed the request: %v", err)
	}
}

func TestWritesLastAsTheyShould(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	exactly, done := Exactly(ctx)()
	done()
	if exactly.Err() == nil {
		t.Error("Exactly outlasts its context")
	}
	lasting, end := Lasting(ctx)()
	if _, limited := lasting.Deadline(); lasting.Err() != nil || !limited {
		t.Errorf("Lasting: %v, has a deadline: %t", lasting.Err(), limited)
	}
	end()
	if err := Collided(t.Context(), errTest, 1); err != nil {
		t.Errorf("the first attempt: %v", err)
	}
	if err := Collided(t.Context(), errTest, 2); err != nil {
		t.Errorf("another attempt: %v", err)
	}
	if err := Collided(ctx, errTest, 2); !errors.Is(err, errTest) || !errors.Is(err, context.Canceled) {
		t.Errorf("when the context has ended: %v", err)
	}
}

func TestTheEndOfACallersContextDecidesNothing(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var s State
	if err := s.Open(ended, t.Context(), func() error { return errTest }); err != errTest || !s.Is(Unread) || s.Failure() != nil {
		t.Errorf("Open: %v, standing %d, failure %v", err, s.standing, s.Failure())
	}
	if err := s.Open(t.Context(), t.Context(), func() error { return nil }); err != nil || !s.Is(Usable) {
		t.Errorf("the next Open: %v, standing %d", err, s.standing)
	}
	s = State{}
	if err := s.Open(ended, ended, func() error { return errTest }); err != errTest || !s.Is(Failed) {
		t.Errorf("Open when the request has ended too: %v, standing %d", err, s.standing)
	}
}

func TestChangesAreRefusedAfterASaveThatFailed(t *testing.T) {
	t.Parallel()
	s := readTo(Usable, nil)
	if s.Saved(errTest); !errors.Is(s.Refusal(), errTest) {
		t.Errorf("Refusal = %v", s.Refusal())
	}
	if s.Saved(nil); s.Refusal() != nil {
		t.Errorf("after another Save: %v", s.Refusal())
	}
}
