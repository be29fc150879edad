package adapters

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/extractors"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"

	"github.com/sojourn-go/sojourn/adapters/fiberstore"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/memory"
)

// fiberSteps is a service whose handlers do what each request wants.
type fiberSteps struct {
	site
	*fibersession.Store
	storage *fiberstore.Storage
	ahead   atomic.Int64
	steps   chan func(fiber.Ctx) error
}

func newFiberSteps(t *testing.T, cfg fibersession.Config) *fiberSteps {
	f := &fiberSteps{steps: make(chan func(fiber.Ctx) error, 1)}
	behind := memory.Open(t, func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) })
	var err error
	if f.storage, err = fiberstore.New(behind, fiberstore.Options{}); err != nil {
		t.Fatal(err)
	}
	cfg.Storage, cfg.KeyGenerator = f.storage, f.storage.NewKey
	f.Store = fibersession.NewStore(cfg)
	app := fiber.New()
	app.Get("/", func(c fiber.Ctx) error { return (<-f.steps)(c) })
	f.site = listenV3(t, app)
	return f
}

// request has a handler do something with the session of a request, which has the given
// ID; empty is none. It returns the session's ID and the answer.
func (f *fiberSteps) request(id string, do func(s *fibersession.Session) error) (string, answer) {
	f.t.Helper()
	var cookie *http.Cookie
	if id != "" {
		cookie = &http.Cookie{Name: "session_id", Value: id}
	}
	ids := make(chan string, 1)
	f.steps <- func(c fiber.Ctx) error {
		s, err := f.Get(c)
		if err != nil {
			ids <- ""
			return err
		}
		defer s.Release()
		err = do(s)
		ids <- s.ID()
		return err
	}
	got := f.site.get("/", cookie)
	return <-ids, got
}

// does is request for what has to succeed.
func (f *fiberSteps) does(id string, do func(s *fibersession.Session) error) string {
	f.t.Helper()
	now, got := f.request(id, do)
	if got.status != http.StatusOK {
		f.t.Errorf("status %d: %s", got.status, got.body)
	}
	return now
}

// set returns what saves values; nil deletes one.
func set(values map[string]any) func(s *fibersession.Session) error {
	return func(s *fibersession.Session) error {
		for key, value := range values {
			if s.Set(key, value); value == nil {
				s.Delete(key)
			}
		}
		return s.Save()
	}
}

// holds checks what a session has; nil says that there is no such session.
func (f *fiberSteps) holds(id string, want map[string]any) {
	f.t.Helper()
	f.does(id, func(s *fibersession.Session) error {
		if fresh := s.ID() != id; s.Fresh() != fresh || fresh != (want == nil) {
			return fmt.Errorf("fresh is %v; the ID is the same: %v", s.Fresh(), !fresh)
		}
		got := map[string]any{}
		for _, key := range s.Keys() {
			got[fmt.Sprint(key)] = s.Get(key)
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("it holds %v; want %v", got, want)
		}
		return nil
	})
}

type fiberUser struct{ Name string }

// These are the cases of the tests of Fiber's sessions that a storage has a part in.
func TestFiberSessions(t *testing.T) {
	t.Parallel()
	f := newFiberSteps(t, fibersession.Config{})
	f.RegisterType(fiberUser{})
	save := func(s *fibersession.Session) error { return s.Save() }

	// Values of all types come back, and one that is deleted does not.
	empty := f.does("", save)
	f.holds(empty, map[string]any{})
	values := map[string]any{
		"user": fiberUser{"John"}, "bool": true, "string": "str", "int": 13, "int8": int8(13), "int16": int16(13), "int32": int32(13),
		"int64": int64(13), "uint": uint(13), "uint8": uint8(13), "uint16": uint16(13), "uint32": uint32(13), "uint64": uint64(13),
		"uintptr": uintptr(13), "float32": float32(13), "float64": 13.5, "complex64": complex64(13), "complex128": complex128(13),
	}
	id := f.does(empty, set(values))
	f.holds(id, values)
	f.does(id, set(map[string]any{"string": nil}))
	delete(values, "string")
	f.holds(id, values)
	f.holds("123", nil) // not accepted
	f.holds(empty, values)

	// Two saves in one request are of one session, also when the first one makes it.
	id = f.does("", func(s *fibersession.Session) error {
		return errors.Join(set(map[string]any{"id": "1"})(s), set(map[string]any{"name": "john"})(s))
	})
	f.holds(id, map[string]any{"id": "1", "name": "john"})

	// A Reset takes ID and values away, Regenerate the ID only, Destroy all.
	reset := f.does(id, func(s *fibersession.Session) error {
		if err := s.Reset(); err != nil || !s.Fresh() || len(s.Keys()) > 0 {
			return fmt.Errorf("Reset: %v, fresh %v, %v", err, s.Fresh(), s.Keys())
		}
		return set(map[string]any{"name": "fenny"})(s)
	})
	f.holds(id, nil)
	f.holds(reset, map[string]any{"name": "fenny"})
	again := f.does(reset, func(s *fibersession.Session) error { return errors.Join(s.Regenerate(), s.Save()) })
	f.holds(reset, nil)
	f.holds(again, map[string]any{"name": "fenny"})
	f.does(again, func(s *fibersession.Session) error { return s.Destroy() })
	f.holds(again, nil)
	f.does("", func(s *fibersession.Session) error { return s.Destroy() }) // of one that was not saved

	// Its own idle timeout.
	brief := f.does("", func(s *fibersession.Session) error { s.SetIdleTimeout(5 * time.Second); return s.Save() })
	long := f.does("", save)
	f.holds(brief, map[string]any{})
	f.ahead.Add(int64(5 * time.Second))
	f.holds(brief, nil)
	f.holds(long, map[string]any{})

	// By its ID, without a request.
	ctx := t.Context()
	for id, want := range map[string]error{
		"": fibersession.ErrEmptySessionID, "none": fibersession.ErrSessionIDNotFoundInStore, brief: fibersession.ErrSessionIDNotFoundInStore,
	} {
		if _, err := f.GetByID(ctx, id); !errors.Is(err, want) {
			t.Errorf("GetByID: %v; want %v", err, want)
		}
	}
	s, err := f.GetByID(ctx, long)
	if err != nil {
		t.Fatal(err)
	}
	s.Set("name", "carol")
	if err := s.Save(); err != nil {
		t.Error(err)
	}
	s.Release()
	f.holds(long, map[string]any{"name": "carol"})
	if err := errors.Join(f.Delete(ctx, long), f.Delete(ctx, "none")); err != nil {
		t.Error(err)
	}
	f.holds(long, nil)

	// What the storage fails with, and what nobody can decode, reaches the client.
	broken := f.storage.NewKey()
	if err := f.storage.Set(broken, []byte("no gob"), 0); err != nil {
		t.Fatal(err)
	}
	if _, got := f.request(broken, save); got.status != http.StatusInternalServerError {
		t.Errorf("a session that cannot be decoded: status %d", got.status)
	}

	all := []string{f.does("", save), f.does("", save)}
	if err := f.Reset(ctx); err != nil {
		t.Error(err)
	}
	for _, id := range all {
		f.holds(id, nil)
	}
}

func TestFiberAbsoluteTimeout(t *testing.T) {
	t.Parallel()
	const lasts = 100 * time.Millisecond // by the clock of the machine, which Fiber takes
	f := newFiberSteps(t, fibersession.Config{IdleTimeout: lasts, AbsoluteTimeout: lasts})
	id := f.does("", set(map[string]any{"name": "john"}))
	dbtest.Eventually(t, "it has ended however often it was used", func() bool {
		return f.does(id, func(s *fibersession.Session) error {
			if s.ID() == id {
				s.SetIdleTimeout(time.Hour)
				return s.Save()
			}
			return nil
		}) != id
	})
	if _, err := f.GetByID(t.Context(), id); !errors.Is(err, fibersession.ErrSessionIDNotFoundInStore) {
		t.Errorf("GetByID: %v", err)
	}
}

// The ID goes where the extractors say.
func TestFiberSessionsByHeader(t *testing.T) {
	t.Parallel()
	f := newFiberSteps(t, fibersession.Config{
		Extractor: extractors.Chain(extractors.FromCookie("session_id"), extractors.FromHeader("X-Session")),
	})
	id, got := f.request("", set(map[string]any{"name": "john"}))
	if got.header.Get("X-Session") != id || got.cookie == nil || got.cookie.Value != id {
		t.Errorf("the ID is not in %v", got.header)
	}
	f.steps <- func(c fiber.Ctx) error {
		s, err := f.Get(c)
		if err != nil {
			return err
		}
		defer s.Release()
		return c.SendString(fmt.Sprint(s.Get("name")))
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Session", id)
	resp, err := f.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := make([]byte, 10)
	if n, _ := resp.Body.Read(body); string(body[:n]) != "john" {
		t.Errorf("by the header: %q", body[:n])
	}
}

// Requests at the same time have each their own session.
func TestFiberSessionsAtOnce(t *testing.T) {
	t.Parallel()
	storage, err := fiberstore.New(memory.Open(t, nil), fiberstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := newFiber(t, fibersession.Config{Storage: storage, KeyGenerator: storage.NewKey})
	cookies := make([]*http.Cookie, 20)
	var requests sync.WaitGroup
	for i := range cookies {
		requests.Go(func() { cookies[i] = a.get(fmt.Sprintf("/set?user=user-%d", i), nil).cookie })
	}
	requests.Wait()
	for i, cookie := range cookies {
		a.says("/who", cookie, fmt.Sprintf("user-%d", i))
	}
}
