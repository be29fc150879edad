package session_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

// BenchmarkHandler is what a read-only request costs beside net/http, on a
// store in memory: no session, one that is not asked for, the user, a value of
// some 600 bytes of them.
func BenchmarkHandler(b *testing.B) {
	store, err := memstore.New(memstore.Options{PruneInterval: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close(context.Background()) })
	m, err := session.NewManager(store, session.Options{})
	if err != nil {
		b.Fatal(err)
	}
	text := []byte("hello")
	ask := func(w http.ResponseWriter, r *http.Request) *session.Session {
		s, err := m.Session(r.Context())
		if err != nil {
			b.Error(err)
		}
		return s
	}
	plain := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) })
	user := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ask(w, r).User() != "alice" {
			b.Error("it is not alice")
		}
		_, _ = w.Write(text)
	})
	value := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if theme, err := session.Get[string](ask(w, r), "theme"); theme != "dark" || err != nil {
			b.Error(theme, err)
		}
		_, _ = w.Write(text)
	})
	r := sessiontest.Request(b, m, httptest.NewRequest(http.MethodGet, "https://localhost/", nil), func(s *session.Session) error {
		for _, key := range []string{"cart", "profile", "seen", "notes"} {
			if err := s.Set(key, map[string]string{"text": strings.Repeat("x", 120)}); err != nil {
				return err
			}
		}
		if err := s.Set("theme", "dark"); err != nil {
			return err
		}
		return s.Login(context.Background(), "alice", session.Login{Label: "Firefox"})
	})
	for _, c := range []struct {
		name    string
		handler http.Handler
	}{
		{"without", plain}, {"unused", m.Handler(plain)}, {"user", m.Handler(user)}, {"value", m.Handler(value)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			w := &sink{header: http.Header{}}
			for b.Loop() {
				clear(w.header)
				c.handler.ServeHTTP(w, r)
			}
		})
	}
}

// sink is a writer that can do what that of net/http can.
type sink struct {
	header http.Header
	http.Hijacker
}

func (s *sink) Header() http.Header               { return s.header }
func (s *sink) WriteHeader(int)                   {}
func (s *sink) Write(b []byte) (int, error)       { return len(b), nil }
func (s *sink) WriteString(t string) (int, error) { return len(t), nil }
func (s *sink) Flush()                            {}
func (s *sink) FlushError() error                 { return nil }
