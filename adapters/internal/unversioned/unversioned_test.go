package unversioned

import (
	"errors"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

func open(t *testing.T) (*memstore.Store, *Store) {
	kept := memory.Open(t, nil)
	return kept, another(t, kept)
}

// another is another node's Store.
func another(t *testing.T, kept session.Store) *Store {
	s, err := New(kept)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(data string) Write {
	return Write{Key: session.ForeignKey("test", "token"), Data: []byte(data), Lasts: time.Hour}
}

// A store that has to search for a key is asked once for a new session.
func TestANewSessionIsNotLookedFor(t *testing.T) {
	t.Parallel()
	kept, s := open(t)
	if _, err := s.Write(t.Context(), write("a")); err != nil {
		t.Fatal(err)
	}
	if st := kept.Stats(); st.Creates != 1 || st.Gets != 0 {
		t.Errorf("%d creates, %d gets; want 1, 0", st.Creates, st.Gets)
	}
	if _, err := s.Write(t.Context(), write("b")); err != nil {
		t.Fatal(err)
	}
	if st := kept.Stats(); st.Refused != 0 || st.Saves != 1 {
		t.Errorf("%d refused, %d saves; want 0, 1", st.Refused, st.Saves)
	}
}

// One that this node has not met may be there all the same, or have ended.
func TestAWriteToASessionThatWasNotMet(t *testing.T) {
	t.Parallel()
	kept, s := open(t)
	first, err := s.Write(t.Context(), write("a"))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := another(t, kept).Write(t.Context(), write("b"))
	if err != nil || string(rec.Data) != "b" || !rec.Deadline.Equal(first.Deadline) {
		t.Errorf("Write = %q until %v, %v; want b until %v", rec.Data, rec.Deadline, err, first.Deadline)
	}
	if _, err := s.Destroy(t.Context(), first.Key); err != nil {
		t.Fatal(err)
	}
	for _, node := range []*Store{s, another(t, kept)} {
		if _, err := node.Write(t.Context(), write("c")); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("a write to what has ended: %v", err)
		}
	}
	none := write("d")
	none.Key, none.Exists = session.ForeignKey("test", "other"), true
	if _, err := s.Write(t.Context(), none); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a write that must find a session: %v", err)
	}
	none.Exists, none.Lasts = false, -1
	if _, err := s.Write(t.Context(), none); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a write that ends what is not there: %v", err)
	}
}

func TestADeadlineIsThatOfTheKey(t *testing.T) {
	t.Parallel()
	_, s := open(t)
	now := s.Now()
	for _, in := range []time.Duration{time.Hour, s.Longest()} {
		key := session.NewID(now.Add(in)).Key()
		if at := s.Deadline(key, time.Minute); session.BucketOf(at) != key.Bucket || at.After(s.Now().Add(s.Longest())) {
			t.Errorf("in %v: %v", in, at)
		}
	}
	foreign := session.ForeignKey("test", "token")
	for lifetime, want := range map[time.Duration]time.Duration{0: s.Longest(), time.Minute: time.Minute} {
		if at := s.Deadline(foreign, lifetime); at.Before(now.Add(want)) || at.After(s.Now().Add(want)) {
			t.Errorf("a lifetime of %v: %v", lifetime, at)
		}
	}
}
