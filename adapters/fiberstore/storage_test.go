package fiberstore

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

// What Fiber asks of a storage: version 2 has the methods without a context only.
var _ interface {
	GetWithContext(ctx context.Context, key string) ([]byte, error)
	Get(key string) ([]byte, error)
	SetWithContext(ctx context.Context, key string, val []byte, exp time.Duration) error
	Set(key string, val []byte, exp time.Duration) error
	DeleteWithContext(ctx context.Context, key string) error
	Delete(key string) error
	ResetWithContext(ctx context.Context) error
	Reset() error
	Close() error
} = (*Storage)(nil)

// env has a store whose clock stands still.
type env struct {
	*testing.T
	*Storage
	behind *memstore.Store
	ahead  atomic.Int64
}

func newEnv(t *testing.T, opts Options) *env {
	e := &env{T: t}
	start := time.Now().Add(time.Hour)
	e.behind = memory.Open(t, func() time.Time { return start.Add(time.Duration(e.ahead.Load())) })
	var err error
	if e.Storage, err = New(e.behind, opts); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *env) set(key string, val []byte, exp time.Duration) {
	e.Helper()
	if err := e.Set(key, val, exp); err != nil {
		e.Errorf("Set: %v", err)
	}
}

// has checks what Get returns; nil is nothing.
func (e *env) has(key string, want []byte) {
	e.Helper()
	if got, err := e.Get(key); !bytes.Equal(got, want) || (got == nil) != (want == nil) || err != nil {
		e.Errorf("Get(%q) = %q, %v; want %q", key, got, err, want)
	}
}

// keys are one of ours, and some that Fiber or an application may make.
func (e *env) keys() []string {
	return []string{e.NewKey(), "8b9fbd0e-9b0b-4a5b-8d54-1f3a6f2a7c11", strings.Repeat("k", 500), "john", "\xff\x00"}
}

// These are the checks that gofiber/storage has for its storages.
func TestAStorageKeepsBytes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Options{})
	for _, key := range e.keys() {
		e.has(key, nil)
		e.set(key, []byte("doe"), 0)
		e.has(key, []byte("doe"))
		binary := []byte{0xff, 0, 0xfe, 'a'}
		e.set(key, binary, time.Hour)
		e.has(key, binary)
		binary[0] = 'x' // the buffers of Fiber are used again
		e.has(key, []byte{0xff, 0, 0xfe, 'a'})
		got, _ := e.Get(key)
		got[0] = 'x'
		e.has(key, []byte{0xff, 0, 0xfe, 'a'})
		e.set(key, nil, time.Hour)
		e.set(key, []byte{}, time.Hour)
		e.has(key, []byte{0xff, 0, 0xfe, 'a'})
		if err := e.Delete(key); err != nil {
			t.Error(err)
		}
		e.has(key, nil)
	}
	e.set("", []byte("doe"), 0)
	e.has("", nil)
	for _, key := range []string{"", "never"} {
		if err := e.Delete(key); err != nil {
			t.Errorf("Delete(%q): %v", key, err)
		}
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	e.set("open", []byte("doe"), 0) // the store is the caller's
	e.has("open", []byte("doe"))
}

func TestSessionsExpire(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Options{Lifetime: 24 * time.Hour})
	for _, key := range e.keys() {
		e.set(key, []byte("brief"), 300*time.Millisecond)
		e.ahead.Add(int64(299 * time.Millisecond))
		e.has(key, []byte("brief"))
		e.ahead.Add(int64(time.Millisecond))
		e.has(key, nil)
	}
	keys := []string{e.NewKey(), "unused"}
	for _, key := range keys {
		e.set(key, []byte("doe"), 0)
		e.set(key+"-", []byte("doe"), 1000*time.Hour)
	}
	e.ahead.Add(int64(24*time.Hour - time.Minute))
	for _, key := range keys {
		e.has(key, []byte("doe"))
		e.has(key+"-", []byte("doe"))
	}
	e.ahead.Add(int64(time.Hour + time.Minute))
	for _, key := range keys {
		e.has(key, nil)
		e.has(key+"-", nil)
	}
}

func TestWhatHasEndedStaysDead(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Options{})
	strict, err := New(e.behind, Options{FailDead: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(key string) error{
		"deleted": func(key string) error { return e.Delete(key) },
		"idle":    func(string) error { e.ahead.Add(int64(time.Hour)); return nil },
		"reset":   func(string) error { return e.Reset() },
	} {
		for i, key := range e.keys() {
			if i > 0 { // ours is another one each time
				key += name
			}
			e.set(key, []byte("doe"), time.Minute)
			if err := end(key); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, val := range []string{"doe", "other"} {
				e.set(key, []byte(val), time.Minute)
				e.has(key, nil)
				if err := strict.Set(key, []byte(val), time.Minute); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("%s, with FailDead: %v", name, err)
				}
			}
		}
	}
}

func TestAResetEndsItsOwnOnly(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Options{})
	other, err := New(e.behind, Options{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	theirs := e.NewKey()
	for _, key := range []string{theirs, "john"} {
		if err := other.Set(key, []byte("theirs"), 0); err != nil {
			t.Fatal(err)
		}
		e.has(key, nil)
	}
	id := session.NewID(e.behind.Now().Add(time.Hour))
	rec, err := e.behind.Create(t.Context(), session.Record{Key: id.Key(), Deadline: e.behind.Now().Add(time.Hour), Data: []byte("a manager's")})
	if err != nil {
		t.Fatal(err)
	}
	e.has(id.Secret(), nil)
	const many = atOnce + 10
	for range many {
		e.set(e.NewKey(), []byte("mine"), 0)
	}
	if err := e.Reset(); err != nil {
		t.Fatal(err)
	}
	if n, err := e.behind.Len(t.Context()); n != 3 || err != nil {
		t.Errorf("%d sessions are left, %v; want the other's two and the manager's", n, err)
	}
	if _, err := e.behind.Get(t.Context(), rec.Key); err != nil {
		t.Errorf("the manager's session: %v", err)
	}
}

func TestValuesThatAreTheSameAreNotWritten(t *testing.T) {
	t.Parallel()
	for _, values := range []any{
		map[any]any{"a": 1, "b": "two", "c": 3.0, "d": "d", "e": "e", 6: "six"},
		map[string]any{"a": 1, "b": "two", "c": 3.0, "d": "d", "e": "e", "f": "f"},
	} {
		e := newEnv(t, Options{})
		key := e.NewKey()
		orders := map[string]bool{}
		for range 50 {
			var b bytes.Buffer
			if err := gob.NewEncoder(&b).Encode(values); err != nil {
				t.Fatal(err)
			}
			orders[b.String()] = true
			e.set(key, b.Bytes(), time.Hour)
		}
		if len(orders) < 2 {
			t.Error("gob has written the map in one order only: this proves nothing")
		}
		if st := e.behind.Stats(); st.Creates != 1 || st.Saves != 0 || st.Touches != 0 {
			t.Errorf("%d creates, %d saves, %d touches; want 1, 0, 0", st.Creates, st.Saves, st.Touches)
		}
	}
}

func TestErrorsReachTheCaller(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Options{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, get := e.GetWithContext(ended, "")
	for _, err := range []error{get, e.SetWithContext(ended, "", nil, 0), e.DeleteWithContext(ended, ""), e.ResetWithContext(ended)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
	}
	if _, err := New(nil, Options{}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("no store: %v", err)
	}
	if _, err := New(e.behind, Options{Lifetime: -1}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("a negative lifetime: %v", err)
	}
	s, err := New(struct {
		session.Store
		session.Putter
	}{e.behind, e.behind}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reset(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("no Lister: %v", err)
	}
	if _, err := New(struct{ session.Store }{e.behind}, Options{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("no Putter: %v", err)
	}
}

// The old storage postpones the end of a session past the hour that its key tells.
func TestASessionEndsInTheHourOfItsKeyAlsoWhereItWas(t *testing.T) {
	t.Parallel()
	for _, phase := range []moving.Phase{moving.Beside, moving.Move, moving.Return} {
		old := &mapOld{}
		e := newEnv(t, Options{Old: old, Phase: phase, Lifetime: time.Hour})
		key := e.NewKey()
		old.set(key, "1")
		e.ahead.Add(int64(3 * time.Hour))
		e.has(key, nil)
		e.set(key, []byte("2"), time.Hour)
		e.has(key, nil)
		if err := e.Delete(key); err != nil {
			t.Errorf("%v: Delete: %v", phase, err)
		}
		if old.has(key) {
			t.Errorf("%v: the old program still finds it", phase)
		}
	}
}

// mapOld is a storage of Fiber.
type mapOld struct{ sync.Map }

func (o *mapOld) set(key, val string) { o.Store(key, []byte(val)) }

func (o *mapOld) has(key string) bool {
	_, found := o.Load(key)
	return found
}

func (o *mapOld) Get(key string) ([]byte, error) {
	if v, found := o.Load(key); found {
		return v.([]byte), nil
	}
	return nil, nil
}

func (o *mapOld) Set(key string, val []byte, _ time.Duration) error {
	o.Store(key, val)
	return nil
}

func (o *mapOld) Delete(key string) error {
	o.Map.Delete(key)
	return nil
}

func (o *mapOld) Reset() error {
	o.Clear()
	return nil
}
