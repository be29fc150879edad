package nodestore_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// koaSite is a KoaSession on a table of its own.
type koaSite struct {
	testing.TB
	store *nodestore.Store
	m     *nodestore.KoaSession
}

// theKey is a client's way to name its session without a cookie.
const theKey = "X-Session"

func newKoaSite(t testing.TB, opts nodestore.KoaSessionOptions) koaSite {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "s.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	store, err := nodestore.New(t.Context(), db, nodestore.KoaSessionKnexStore(nodestore.SQLite), nodestore.Options{CreateTable: true, PruneInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.Background()) })
	opts.ExternalKey = func(r *http.Request) string { return r.Header.Get(theKey) }
	opts.SendExternalKey = func(h http.Header, id string) { h.Set(theKey, id) }
	m, err := nodestore.NewKoaSession(store, opts)
	if err != nil {
		t.Fatal(err)
	}
	return koaSite{t, store, m}
}

// do serves a request of who has the key and returns the key of the answer.
func (k koaSite) do(key string, handle func(*nodestore.Session) error) string {
	k.Helper()
	r := httptest.NewRequestWithContext(k.Context(), http.MethodGet, "/", nil)
	r.Header.Set(theKey, key)
	w := httptest.NewRecorder()
	k.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s, err := nodestore.FromContext(r.Context())
		if err == nil {
			err = handle(s)
		}
		if err != nil {
			k.Error(err)
		}
	})).ServeHTTP(w, r)
	if lines := w.Header().Values("Set-Cookie"); lines != nil {
		k.Errorf("the answer sets %q", lines)
	}
	return w.Header().Get(theKey)
}

// want checks the row of a session, its numbers of milliseconds as "ms".
func (k koaSite) want(key, want string) {
	k.Helper()
	e, err := k.store.Get(k.Context(), key)
	if got := regexp.MustCompile(`\d{6,}`).ReplaceAllString(string(e.Data), "ms"); err != nil || got != want {
		k.Errorf("the row is %s (%v), want %s", got, err, want)
	}
}

func TestAKoaSessionTellsItsEndAmongItsMembers(t *testing.T) {
	t.Parallel()
	k := newKoaSite(t, nodestore.KoaSessionOptions{Prefix: "web:"})
	key := k.do("", func(s *nodestore.Session) error { return s.Set("a", 1) })
	if !regexp.MustCompile(`^web:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(key) {
		t.Errorf("the ID is not the prefix and a UUID, of %d characters", len(key))
	}
	k.want(key, `{"a":1,"_expire":ms,"_maxAge":ms}`)
	e, err := k.store.Get(t.Context(), key)
	if left := time.Until(e.Expires); err != nil || left < 24*time.Hour-time.Minute || left > 24*time.Hour+10*time.Second {
		t.Errorf("the row ends in %v (%v), want a day and ten seconds", left, err)
	}

	// What is not changed is left alone, a change comes before the end.
	if sent := k.do(key, func(*nodestore.Session) error { return nil }); sent != "" {
		t.Error("a session that is not changed is sent again")
	}
	k.do(key, func(s *nodestore.Session) error { return s.Set("b", 2) })
	k.want(key, `{"a":1,"b":2,"_expire":ms,"_maxAge":ms}`)

	// "cookie" is a key as any, and what begins with _ is koa-session's.
	doc := `{"cookie":7,"_x":1,"_expire":` + time.Now().Add(time.Hour).Format("20060102") + `0000000,"_maxAge":3600000}`
	if err := k.store.Set(t.Context(), "kept", []byte(doc), nodestore.TTL(time.Hour)); err != nil {
		t.Fatal(err)
	}
	k.do("kept", func(s *nodestore.Session) error {
		if keys := s.Keys(); !slices.Equal(keys, []string{"cookie"}) {
			t.Errorf("the keys are %q, want the application's", keys)
		}
		for _, hidden := range []string{"_x", "_expire", "maxAge", "isNew", "save"} {
			if err := s.Set(hidden, 1); !errors.Is(err, session.ErrInvalid) {
				t.Errorf("Set of %s: %v, want ErrInvalid", hidden, err)
			}
		}
		return s.Set("cookie", 8)
	})
	k.want("kept", `{"cookie":8,"_x":1,"_expire":ms,"_maxAge":ms}`)
}

func TestAKoaSessionEndsWhenItSaysSo(t *testing.T) {
	t.Parallel()
	k := newKoaSite(t, nodestore.KoaSessionOptions{})
	if err := k.store.Set(t.Context(), "dead", []byte(`{"a":1,"_expire":1700000000000,"_maxAge":1}`), nodestore.TTL(time.Hour)); err != nil {
		t.Fatal(err)
	}
	sent := k.do("dead", func(s *nodestore.Session) error {
		if !s.IsNew() || s.Raw("a") != nil {
			t.Error("a session is served whose _expire has passed")
		}
		return s.Set("b", 1)
	})
	if sent == "" || sent == "dead" {
		t.Error("the ID of a dead session is used again")
	}
}

func TestTheMaxAgeOfAKoaSessionIsItsOwn(t *testing.T) {
	t.Parallel()
	k := newKoaSite(t, nodestore.KoaSessionOptions{Cookie: nodestore.Cookie{MaxAge: time.Hour, SameSite: "lax"}})
	key := k.do("", func(s *nodestore.Session) error { return s.Set("a", 1) })
	k.want(key, `{"a":1,"_expire":ms,"_maxAge":ms}`)
	sent := k.do(key, func(s *nodestore.Session) error {
		c := s.Cookie()
		if c.MaxAge != time.Hour || c.SameSite != "lax" {
			t.Errorf("the cookie is %+v", c)
		}
		c.MaxAge = -1
		return s.SetCookie(c)
	})
	if sent != key {
		t.Error("a session whose MaxAge was set is not sent again")
	}
	k.want(key, `{"a":1,"_session":true}`)
	k.do(key, func(s *nodestore.Session) error {
		c := s.Cookie()
		if c.MaxAge >= 0 {
			t.Errorf("MaxAge is %v, want none", c.MaxAge)
		}
		c.MaxAge, c.SameSite = time.Minute, "strict"
		if err := s.SetCookie(c); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("another SameSite: %v, want ErrInvalid", err)
		}
		c.SameSite = "lax"
		return s.SetCookie(c)
	})
	k.want(key, `{"a":1,"_expire":ms,"_maxAge":60000}`)
}

func TestOptionsOfAKoaSessionAreChecked(t *testing.T) {
	t.Parallel()
	k := newKoaSite(t, nodestore.KoaSessionOptions{})
	get := func(*http.Request) string { return "" }
	for field, opts := range map[string]nodestore.KoaSessionOptions{
		"Keys":            {},
		"Name":            {Name: "a=b", Keys: session.Secrets("k")},
		"SendExternalKey": {ExternalKey: get, Keys: session.Secrets("k")},
		"SameSite":        {Cookie: nodestore.Cookie{SameSite: "auto"}, Keys: session.Secrets("k")},
	} {
		if _, err := nodestore.NewKoaSession(k.store, opts); !errors.Is(err, session.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%v, want ErrInvalid about %s", err, field)
		}
	}
	if _, err := nodestore.NewKoaSession(nil, nodestore.KoaSessionOptions{}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("without a store: %v, want ErrInvalid", err)
	}
}
