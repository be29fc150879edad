package scsstore

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

// What scs asks of a store, method by method.
var _ interface {
	Delete(token string) error
	Find(token string) ([]byte, bool, error)
	Commit(token string, b []byte, expiry time.Time) error
	All() (map[string][]byte, error)
	DeleteCtx(ctx context.Context, token string) error
	FindCtx(ctx context.Context, token string) ([]byte, bool, error)
	CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error
	AllCtx(ctx context.Context) (map[string][]byte, error)
} = (*Store)(nil)

// env has a store whose clock stands still, an hour ahead of this machine's.
type env struct {
	*testing.T
	*Store
	behind *memstore.Store
	ahead  atomic.Int64
	start  time.Time
}

func newEnv(t *testing.T, opts Options) *env {
	e := &env{T: t, start: time.Now().Add(time.Hour)}
	e.behind = memory.Open(t, func() time.Time { return e.start.Add(time.Duration(e.ahead.Load())) })
	var err error
	if e.Store, err = New(e.behind, opts); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *env) pass(d time.Duration) { e.ahead.Add(int64(d)) }

func (e *env) commit(token string, b []byte, lasts time.Duration) {
	e.Helper()
	if err := e.Commit(token, b, time.Now().Add(lasts)); err != nil {
		e.Fatalf("Commit: %v", err)
	}
}

// finds checks what Find returns; nil is nothing.
func (e *env) finds(token string, want []byte) {
	e.Helper()
	b, found, err := e.Find(token)
	if !bytes.Equal(b, want) || found != (want != nil) || err != nil {
		e.Errorf("Find(%q) = %q, %v, %v; want %q", token, b, found, err, want)
	}
}

func blob(t *testing.T, deadline time.Time, values map[string]any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(struct {
		Deadline time.Time
		Values   map[string]any
	}{deadline, values}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAStoreKeepsBytes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Options{})
	e.finds("token", nil)
	e.commit("token", []byte("one"), time.Minute)
	e.finds("token", []byte("one"))
	e.commit("token", []byte("two"), time.Minute)
	e.finds("token", []byte("two"))
	e.commit("other", []byte{}, time.Minute)
	if _, found, err := e.Find("other"); !found || err != nil {
		t.Errorf("Find of a session without bytes = %v, %v", found, err)
	}
	e.finds("", nil)
	e.pass(time.Minute + time.Second)
	e.finds("token", nil)
	for _, token := range []string{"token", "never", ""} {
		if err := e.Delete(token); err != nil {
			t.Errorf("Delete(%q): %v", token, err)
		}
	}
}

func TestWhatHasEndedStaysDead(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*env) error{
		"deleted":   func(e *env) error { return e.Delete("token") },
		"committed": func(e *env) error { return e.Commit("token", []byte("b"), time.Now().Add(-time.Second)) },
		"idle":      func(e *env) error { e.pass(time.Hour); return nil },
	} {
		e := newEnv(t, Options{})
		strict, err := New(e.behind, Options{FailDead: true})
		if err != nil {
			t.Fatal(err)
		}
		e.commit("token", []byte("a"), time.Minute)
		if err := end(e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, b := range []string{"a", "b"} {
			e.commit("token", []byte(b), time.Minute)
			e.finds("token", nil)
			if err := strict.Commit("token", []byte(b), time.Now().Add(time.Minute)); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("%s, with FailDead: %v", name, err)
			}
		}
		e.commit("never", []byte("a"), -time.Second) // makes nothing
		e.finds("never", nil)
		e.commit("never", []byte("a"), time.Second)
		e.finds("never", []byte("a"))
	}
}

func TestValuesThatAreTheSameAreNotWritten(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Options{})
	deadline := time.Now().Add(24 * time.Hour).UTC()
	values := map[string]any{}
	for _, k := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		values[k] = k
	}
	const idle = time.Hour
	e.commit("token", blob(t, deadline, values), idle)
	orders := map[string]bool{}
	for range 50 {
		b := blob(t, deadline, values)
		orders[string(b)] = true
		e.commit("token", b, idle)
	}
	if len(orders) < 2 {
		t.Error("gob has written the map in one order only: this proves nothing")
	}
	if st := e.behind.Stats(); st.Saves != 0 || st.Touches != 0 || st.Creates != 1 {
		t.Errorf("%d creates, %d saves, %d touches; want 1, 0, 0", st.Creates, st.Saves, st.Touches)
	}
	// For three hours the session is used every quarter of a minute.
	for range 3 * 60 * 4 {
		e.pass(15 * time.Second)
		e.commit("token", blob(t, deadline, values), idle)
	}
	st := e.behind.Stats()
	if st.Saves != 0 || st.Touches < 100 || st.Touches > 180 {
		t.Errorf("%d saves, %d touches; want 0 and a touch a minute", st.Saves, st.Touches)
	}
	values["a"] = "changed"
	e.commit("token", blob(t, deadline, values), idle)
	e.commit("token", blob(t, deadline.Add(-time.Hour), values), idle)   // SetDeadline
	e.commit("token", blob(t, deadline.Add(-time.Hour), values), idle/2) // a deployment with a shorter timeout
	if got := e.behind.Stats().Saves - st.Saves; got != 3 {
		t.Errorf("%d saves of three changes", got)
	}
	e.pass(idle/2 + time.Second)
	e.finds("token", nil)
}

func TestADeadlineIsKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		opts  Options
		lasts time.Duration
	}{
		{Options{}, 24 * time.Hour},
		{Options{Lifetime: 48 * time.Hour}, 48 * time.Hour},
	} {
		e := newEnv(t, tt.opts)
		deadline := time.Now().Add(24 * time.Hour)
		e.commit("token", blob(t, deadline, nil), time.Hour)
		later := blob(t, deadline.Add(1000*time.Hour), nil) // SetDeadline
		e.commit("token", later, 1000*time.Hour)
		e.pass(tt.lasts - time.Minute)
		e.finds("token", later)
		e.pass(2 * time.Minute)
		e.finds("token", nil)
	}
	e := newEnv(t, Options{})
	if err := e.Commit("token", blob(t, time.Now().Add(1000*time.Hour), nil), time.Now().Add(time.Hour)); !errors.Is(err, session.ErrDeadline) {
		t.Errorf("a deadline beyond the longest lifetime: %v", err)
	}
}

func TestAliasesAreForDeleteOnly(t *testing.T) {
	t.Parallel()
	for _, byHash := range []bool{false, true} {
		e := newEnv(t, Options{})
		other, err := New(e.behind, Options{Name: "other"})
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Commit("token", []byte("other's"), time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if all, err := e.All(); all == nil || len(all) != 0 || err != nil {
			t.Errorf("All = %v, %v; want an empty map", all, err)
		}
		e.commit("token", []byte("mine"), time.Minute)
		all, err := e.All()
		if len(all) != 1 || err != nil {
			t.Fatalf("All: %d sessions, %v", len(all), err)
		}
		alias := slices.Collect(maps.Keys(all))[0]
		if string(all[alias]) != "mine" || alias == "token" {
			t.Errorf("All = %q", all)
		}
		if byHash {
			alias = hashed(alias)
		}
		e.finds(alias, nil)
		if err := e.Commit(alias, []byte("x"), time.Now().Add(time.Minute)); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("Commit of an alias: %v", err)
		}
		e.finds(alias, nil)
		e.finds("token", []byte("mine"))
		if err := e.Delete(alias); err != nil {
			t.Error(err)
		}
		e.finds("token", nil)
	}
}

func TestUsersAreOfAName(t *testing.T) {
	t.Parallel()
	user := func(values map[string]any) string { s, _ := values["user"].(string); return s }
	e := newEnv(t, Options{User: user})
	other, err := New(e.behind, Options{Name: "other", User: user})
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Hour)
	alice := blob(t, deadline, map[string]any{"user": "alice"})
	e.commit("token", alice, time.Minute)
	if err := other.Commit("token", alice, deadline); err != nil {
		t.Fatal(err)
	}
	if err := e.Commit("token", blob(t, deadline, map[string]any{"user": "bob"}), deadline); !errors.Is(err, session.ErrUserChanged) {
		t.Errorf("another user: %v", err)
	}
	e.commit("token", blob(t, deadline, nil), time.Minute) // whoever is logged out is still found
	if err := e.Commit("unread", []byte("no gob"), deadline); err == nil {
		t.Error("what cannot be decoded was committed, and DestroyUser would not find it")
	}
	if n, err := e.DestroyUser(t.Context(), "alice"); n != 1 || err != nil {
		t.Errorf("DestroyUser = %d, %v; want 1, nil", n, err)
	}
	if _, found, err := other.Find("token"); !found || err != nil {
		t.Errorf("the other manager's session: %v, %v", found, err)
	}
}

// narrow is a store with none of the optional interfaces.
type narrow struct{ session.Store }

func TestWhatAStoreLacksIsSaid(t *testing.T) {
	t.Parallel()
	e := newEnv(t, Options{})
	if _, err := New(nil, Options{}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("no store: %v", err)
	}
	if _, err := New(e.behind, Options{Lifetime: -1}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("a negative lifetime: %v", err)
	}
	if _, err := New(narrow{e.behind}, Options{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("no Putter: %v", err)
	}
	putter := struct {
		session.Store
		session.Putter
	}{e.behind, e.behind}
	s, err := New(putter, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.All(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("no Lister: %v", err)
	}
	if _, err := s.DestroyUser(t.Context(), "alice"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("no UserIndex: %v", err)
	}
	if _, err := New(putter, Options{User: func(map[string]any) string { return "" }}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Options.User without a UserIndex: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := e.FindCtx(ended, "token"); !errors.Is(err, context.Canceled) {
		t.Errorf("Find with a context that has ended: %v", err)
	}
	if err := e.CommitCtx(ended, "token", nil, time.Now().Add(time.Hour)); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit with a context that has ended: %v", err)
	}
	if err := e.DeleteCtx(ended, "token"); !errors.Is(err, context.Canceled) {
		t.Errorf("Delete with a context that has ended: %v", err)
	}
}
