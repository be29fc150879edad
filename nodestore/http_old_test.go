package nodestore_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// takesOver has a Manager that takes over the sessions of old.
func (w *web) takesOver(old session.Old) func(cookie string, do func(*session.Session)) *http.Response {
	w.Helper()
	m, err := session.NewManager(memory.Open(w, w.clock.Now), session.Options{Old: old, Policy: session.Policy{IdleTimeout: 48 * time.Hour}})
	w.must("NewManager", err)
	return func(cookie string, do func(*session.Session)) *http.Response {
		w.Helper()
		r := httptest.NewRequest(http.MethodGet, "https://shop.example/", nil)
		r.Header.Set("Cookie", cookie)
		rec := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s, err := session.FromContext(r.Context())
			if err == nil && do != nil {
				do(s)
			}
		})).ServeHTTP(rec, r)
		if rec.Code != http.StatusOK {
			w.Fatalf("status %d", rec.Code)
		}
		return rec.Result()
	}
}

func TestAManagerTakesOverTheSessionsOfExpress(t *testing.T) {
	t.Parallel()
	w := express(t, "sqlite", nodestore.ExpressOptions{User: []string{"passport", "user"}})
	w.node(sidA, strings.Replace(lastingRow, `"user":"zoe"`, `"user":"zoe","cart":[1,2.5],"_flash":{},"":1,"big":12345678901234567890`, 1))
	ask := w.takesOver(w.m.(*nodestore.Express).Old())
	var cookie string
	for _, by := range []string{cookieA, "", cookieA} { // by ours in between, and late by the old one
		if by == "" {
			by = cookie
		}
		res := ask(by, func(s *session.Session) {
			cart, err := session.NewValue[[]float64]("cart").Get(s)
			zoe, _ := session.NewValue[string]("user").Get(s)
			if s.User() != "106" || len(cart) != 2 || cart[1] != 2.5 || err != nil || zoe != "zoe" {
				t.Errorf("user %q, %v, %v, %q", s.User(), cart, err, zoe)
			}
		})
		if c := res.Cookies(); len(c) > 0 {
			cookie = c[0].Name + "=" + c[0].Value
		}
	}
	if w.row(sidA) != "" {
		t.Error("the row is still there")
	}
	for name, cookie := range map[string]string{
		"a signature that is wrong":     strings.Replace(cookieA, "A6X", "B6X", 1),
		"an ID of which there is none":  "connect.sid=s%3A" + sidB,
		"a session that cannot be read": cookieA,
	} {
		if strings.HasPrefix(name, "a session") {
			w.node(sidA, `{"user":"zoe"}`) // it is dead here, too
		}
		ask(cookie, func(s *session.Session) {
			if name != "a session that cannot be read" && s.User() != "" {
				t.Errorf("%s: user %q", name, s.User())
			}
		})
	}
	fresh := w.takesOver(w.m.(*nodestore.Express).Old())
	fresh(cookieA, func(s *session.Session) {
		if s.User() != "" || !s.Key().IsZero() {
			t.Errorf("a session that cannot be read: user %q", s.User())
		}
	})
}

func TestAManagerTakesOverTheSessionsOfKoa(t *testing.T) {
	t.Parallel()
	w := koa(t, "sqlite", nodestore.KoaOptions{User: []string{"user"}})
	w.node(sidA, koaRow)
	ask := w.takesOver(w.m.(*nodestore.Koa).Old())
	ask(koaA, func(s *session.Session) {
		if s.User() != "zoe" {
			t.Errorf("user %q", s.User())
		}
	})
	if w.row(sidA) != "" {
		t.Error("the row is still there")
	}
}
