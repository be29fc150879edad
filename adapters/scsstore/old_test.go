package scsstore

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/adapters/moving"
)

// mapOld is a store of scs.
type mapOld struct{ sync.Map }

func (o *mapOld) Find(token string) ([]byte, bool, error) {
	b, found := o.Load(token)
	if !found {
		return nil, false, nil
	}
	return b.([]byte), true, nil
}

func (o *mapOld) Commit(token string, b []byte, _ time.Time) error {
	o.Store(token, b)
	return nil
}

func (o *mapOld) Delete(token string) error {
	o.Map.Delete(token)
	return nil
}

// scs does not look at the deadline of what it finds.
func TestWhatMovesKeepsItsDeadline(t *testing.T) {
	t.Parallel()
	for _, lifetime := range []time.Duration{0, 20 * 24 * time.Hour} {
		old := &mapOld{}
		e := newEnv(t, Options{Old: old, Phase: moving.Move, Lifetime: lifetime})
		b := blob(t, time.Now().Add(time.Hour), nil)
		old.Store("token", b)
		e.finds("token", b)
		e.pass(59 * time.Minute)
		e.finds("token", b)
		e.pass(2 * time.Minute)
		e.finds("token", nil)

		past := blob(t, time.Now().Add(-time.Second), nil)
		old.Store("past", past)
		e.finds("past", nil)
		e.finds("past", nil)
	}
}

// What a node was giving back when Old was taken off is still here.
func TestWhatWasLeavingIsReadWithoutOld(t *testing.T) {
	t.Parallel()
	old := &stuckOld{}
	e := newEnv(t, Options{Old: old, Phase: moving.Return})
	move, err := New(e.behind, Options{Old: old, Phase: moving.Move})
	if err != nil {
		t.Fatal(err)
	}
	b := blob(t, time.Now().Add(time.Hour), nil)
	if err := move.Commit("token", b, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Find("token"); err == nil {
		t.Fatal("it was given back")
	}
	without, err := New(e.behind, Options{})
	if err != nil {
		t.Fatal(err)
	}
	e.Store = without
	e.finds("token", b)
	if all, err := e.All(); len(all) != 1 || err != nil {
		t.Errorf("All: %d sessions, %v", len(all), err)
	}
}

// stuckOld takes nothing.
type stuckOld struct{ mapOld }

var errStuck = errors.New("it takes nothing")

func (*stuckOld) Commit(string, []byte, time.Time) error { return errStuck }
