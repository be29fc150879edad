package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake keeps sessions in memory and does what it is told wrong.
type fake struct {
	wrong string

	mu   sync.Mutex
	made int
	now  int // sessions that are there
}

type fakeVisitor struct {
	f    *fake
	data []byte
	gone bool
}

func (f *fake) close(context.Context) error { return nil }

func (f *fake) create(_ context.Context, data []byte) (visitor, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made, f.now = f.made+1, f.now+1
	if f.wrong == "create" && f.made > 10 {
		return nil, errors.New("no room")
	}
	return &fakeVisitor{f: f, data: data}, nil
}

func (v *fakeVisitor) get(context.Context) ([]byte, error) {
	if v.gone {
		return nil, errGone
	}
	return v.data, nil
}

func (v *fakeVisitor) save(_ context.Context, data []byte) error {
	if v.f.wrong != "save" {
		v.data = data
	}
	return nil
}

func (v *fakeVisitor) touch(context.Context) error {
	if v.f.wrong == "touch" {
		return errors.New("out of order")
	}
	return nil
}

func (v *fakeVisitor) destroy(context.Context) error {
	v.f.mu.Lock()
	defer v.f.mu.Unlock()
	if v.f.wrong != "destroy" {
		v.gone = true
		v.f.now--
	}
	return nil
}

// both returns a fair contender and one that does something wrong.
func both(t *testing.T, wrong string, sessions int) (pair [2]*contender, fair *fake) {
	t.Helper()
	fair = &fake{}
	for i, f := range []*fake{fair, {wrong: wrong}} {
		name := []string{"fair", "foul"}[i]
		c, err := enter(t.Context(), candidate{name, func(context.Context) (backend, error) { return f, nil }}, sessions)
		if err != nil {
			t.Fatal(err)
		}
		pair[i] = c
	}
	return pair, fair
}

func TestWhatAStoreDoesNotDoIsFound(t *testing.T) {
	t.Parallel()
	for wrong, says := range map[string]string{
		"":        "",
		"create":  "foul: create: no room",
		"save":    "foul: get: a session holds",
		"touch":   "foul: touch: out of order",
		"destroy": "foul: clear: a session that was ended is there",
	} {
		pair, _ := both(t, wrong, 10)
		_, err := compare(t.Context(), pair, 3, plan{rounds: 1, duration: time.Microsecond})
		switch {
		case says == "" && err != nil:
			t.Error(err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
			t.Errorf("%s: got %v, want %s", wrong, err, says)
		}
	}
}

func TestAStoreIsAsFullAfterwards(t *testing.T) {
	t.Parallel()
	pair, fair := both(t, "", 10)
	if _, err := compare(t.Context(), pair, 3, plan{rounds: 2, duration: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if fair.now != 10 || fair.made == 10 {
		t.Errorf("%d sessions of %d are left, want 10", fair.now, fair.made)
	}
}

func TestDataHaveTheSizeThatIsSaid(t *testing.T) {
	t.Parallel()
	if a, b := content(0), content(1); len(a) != dataSize || len(b) != dataSize || string(a) == string(b) {
		t.Errorf("%d and %d bytes, the same: %t", len(a), len(b), string(a) == string(b))
	}
}
