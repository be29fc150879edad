package nodestore_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// The cookies and rows are what koa-session-minimal 4.0.0 made of the same steps.
func TestKoaMinimalRules(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := newWeb(t, backend, nodestore.KoaGenericSessionSequelize(nodestore.SQLite))
		ids := []string{sidA, sidB}
		m, err := nodestore.NewKoaMinimalAt(w.store, nodestore.KoaMinimalOptions{GenerateID: func(*http.Request) (string, error) {
			id := ids[0]
			ids = append(ids[1:], id)
			return id, nil
		}}, w.clock.Now)
		w.must("NewKoaMinimal", err)
		w.m = m
		const url, cookie = "http://example.com/", "koa:sess=" + sidA
		step := func(what, cookie string, handle func(turn), want string) {
			t.Helper()
			if got := cookies(w.get(url, cookie, handle)); got != want {
				t.Errorf("%s: the answer sets\n%s; want\n%s", what, got, want)
			}
		}
		step("nothing", "", reads, "")
		step("a value", "", sets("a", 1), cookie+"; path=/; httponly")
		w.has(sidA, `{"a":1}`)
		if got := w.expires(sidA).Sub(frozen); got > 24*time.Hour || got < 24*time.Hour-time.Second {
			t.Errorf("the row lasts %v", got)
		}
		step("read", cookie, reads, "")
		step("another value", cookie, sets("b", 1), cookie+"; path=/; httponly")
		w.has(sidA, `{"a":1,"b":1}`)
		step("regenerateId", cookie, func(t turn) { t.must("Renew", t.s.Renew(t.ctx())) }, "koa:sess="+sidB+"; path=/; httponly")
		w.has(sidA, "")
		w.has(sidB, `{"a":1,"b":1}`)
		step("null", "koa:sess="+sidB, func(t turn) { t.must("Unset", t.s.Unset()) }, "koa:sess=; path=/; expires=Thu, 01 Jan 1970 00:00:00 GMT; httponly")
		w.has(sidB, "")

		// What Node wrote keeps its bytes, and one with a cookie of its own is nobody's.
		row := ` { "n" : 1.50 , "x":{"cookie":2} } `
		w.node(sidA, row)
		w.ask(cookie, sets("n", 2))
		w.has(sidA, strings.Replace(row, "1.50", "2", 1))
		w.node(sidA, `{"cookie":{"path":"/"}}`)
		w.ask(cookie, func(t turn) { t.is("a cookie of its own", t.err, session.ErrUndecodable) })
	})
}

func TestKoaMinimalHasTheOptionsOfThePackage(t *testing.T) {
	t.Parallel()
	w := newWeb(t, "sqlite", nodestore.KoaGenericSessionSequelize(nodestore.SQLite))
	m, err := nodestore.NewKoaMinimalAt(w.store, nodestore.KoaMinimalOptions{
		Name: "sid", Cookie: nodestore.Cookie{MaxAge: time.Minute, Domain: "example.com", Path: "/x", NotHTTPOnly: true},
		GenerateID: func(*http.Request) (string, error) { return sidA, nil },
	}, w.clock.Now)
	w.must("NewKoaMinimal", err)
	w.m = m
	const want = "sid=" + sidA + "; path=/x; expires=Tue, 01 Jan 2030 00:01:00 GMT; domain=example.com"
	if got := cookies(w.get("http://example.com/x", "", sets("a", 1))); got != want {
		t.Errorf("the answer sets\n%s; want\n%s", got, want)
	}
	if got := w.expires(sidA).Sub(frozen); got > time.Minute || got < time.Minute-time.Second {
		t.Errorf("the row lasts %v", got)
	}
	const clears = "sid=; path=/x; expires=Thu, 01 Jan 1970 00:00:00 GMT; domain=example.com"
	if got := cookies(w.get("http://example.com/x", "sid="+sidA, func(t turn) { t.must("Destroy", t.s.Destroy(t.ctx())) })); got != clears {
		t.Errorf("the answer sets\n%s; want\n%s", got, clears)
	}
	store, err := nodestore.New(t.Context(), w.db, nodestore.KoaGenericSessionSequelize(nodestore.SQLite), nodestore.Options{PruneInterval: -1})
	w.must("New", err)
	defer func() { w.must("Close", store.Close(t.Context())) }()
	if _, err := nodestore.NewKoaMinimal(store, nodestore.KoaMinimalOptions{Name: "sid"}); !errors.Is(err, session.ErrInvalid) || !strings.Contains(err.Error(), "IDPrefix") {
		t.Errorf("a prefix of another name: %v", err)
	}
	if _, err := nodestore.NewKoaMinimal(store, nodestore.KoaMinimalOptions{}); err != nil {
		t.Error(err)
	}
}
