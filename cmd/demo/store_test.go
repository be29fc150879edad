package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore"
	"github.com/sojourn-go/sojourn/session"
)

// newNode is a node's HTTP side with a store on a schema of its own.
func newNode(t *testing.T) (http.Handler, *server) {
	t.Helper()
	dsn, schema := dbtest.Postgres(t).Schema(t)
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if err := migrations.Up(t.Context(), config, migrations.Config{Schema: schema}); err != nil {
		t.Fatal(err)
	}
	queries := &queryCounter{}
	pool := dbtest.Pool(t, dsn, func(config *pgxpool.Config) { queries.watch(config) })
	store, err := pgstore.New(t.Context(), pool, pgstore.Options{Schema: schema, PruneInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := store.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	o := &opened{store: store, queries: queries.counts, leader: leaderOf(store)}
	s, err := newServer(nodeConfig{Name: "node 1"}, o, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return s.handler(), s
}

// sendTo sends a request with a cookie, whatever the answer.
func sendTo(h http.Handler, method, path, id string, form url.Values, header http.Header) *http.Response {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		r.AddCookie(&http.Cookie{Name: cookieName, Value: id})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// ask sends a request with a cookie and reads the answer's JSON into reply.
func ask(t *testing.T, h http.Handler, method, path, id string, form url.Values, reply any) (cookie string) {
	t.Helper()
	answer := sendTo(h, method, path, id, form, nil)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, path, answer.Status)
	}
	if err := json.NewDecoder(answer.Body).Decode(reply); err != nil {
		t.Fatal(err)
	}
	for _, c := range answer.Cookies() {
		cookie = c.Value
	}
	return cookie
}

func TestRevokeEndsTheUsersOwnSessionsOnly(t *testing.T) {
	t.Parallel()
	h, s := newNode(t)
	logIn := func(user string) (id string, v view) {
		id = ask(t, h, "POST", "/login?user="+user, "", nil, &v)
		return id, v
	}
	mine, _ := logIn("alice")
	_, other := logIn("alice")
	_, third := logIn("alice")
	_, foreign := logIn("bob")
	for _, key := range []string{foreign.Key, "nonsense", ""} {
		if answer := sendTo(h, "POST", "/revoke", mine, url.Values{"key": {key}}, nil); answer.StatusCode != http.StatusNotFound {
			t.Errorf("%q: %s", key, answer.Status)
		}
	}
	ask(t, h, "POST", "/revoke", mine, url.Values{"key": {other.Key}}, &ended{})
	var left []session.Info
	ask(t, h, "GET", "/sessions", mine, nil, &left)
	if len(left) != 2 || !left[0].Current || left[1].Key != third.Key || left[1].Current {
		t.Errorf("left: %+v", left)
	}
	var reply ended
	ask(t, h, "POST", "/revoke-others", mine, nil, &reply)
	if reply.Ended != 1 {
		t.Errorf("%d others ended", reply.Ended)
	}
	if n, err := s.store.CountUser(t.Context(), "bob"); err != nil || n != 1 {
		t.Errorf("another user has %d sessions, %v", n, err)
	}
}

func TestWrongRequestsAreRefusedAndChangeNothing(t *testing.T) {
	t.Parallel()
	h, _ := newNode(t)
	var before, after view
	id := ask(t, h, "POST", "/login?user=alice", "", nil, &before)
	for path, says := range map[string]string{
		"/set?value=blue":         "key=",
		"/set?key=_flash&value=a": "not possible",
		"/count":                  "key=",
		"/renew?grace=2h":         "1h0m0s",
		"/slow?ms=-1":             "60000",
		"/login?user=":            "user=",
		"/login?user=a%00b":       "not possible",
		"/login?user=a&label=%ff": "not possible",
		"/login?user=a&label=" + strings.Repeat("x", 201): "not possible",
	} {
		answer := sendTo(h, "POST", path, id, nil, nil)
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), says) || len(answer.Cookies()) > 0 {
			t.Errorf("%s: %s, %s", path, answer.Status, body)
		}
	}
	ask(t, h, "GET", "/me?fresh=1", id, nil, &after)
	if after.Version != before.Version || after.Key != before.Key {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestASessionThatEndedMeanwhileIsRefusedWithoutACookie(t *testing.T) {
	t.Parallel()
	h, s := newNode(t)
	var v view
	id := ask(t, h, "POST", "/login?user=alice", "", nil, &v)
	web := httptest.NewServer(h)
	defer web.Close()
	host := strings.TrimPrefix(web.URL, "http://")
	b := &browser{http: web.Client(), seen: func(string) {}, cookie: id}
	finish, err := b.slowly(t.Context(), &node{name: "node 1", addr: host}, "late")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.DestroyUser(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if err := refused(second(finish())); err != nil {
		t.Error(err)
	}
	if b.id() != id {
		t.Error("the late answer changed the cookie")
	}
}

func TestReadsCostAQueryOnlyPastTheMemory(t *testing.T) {
	t.Parallel()
	h, s := newNode(t)
	dbtest.Eventually(t, "the lease", func() bool { return s.store.Stats().Cache.Leased })
	id := ask(t, h, "POST", "/login?user=alice", "", nil, &view{})
	cost := func(path string) (queries, own uint64) {
		var before, after nodeStats
		ask(t, h, "GET", "/stats", "", nil, &before)
		for range 10 {
			ask(t, h, "GET", path, id, nil, &view{})
		}
		ask(t, h, "GET", "/stats", "", nil, &after)
		return after.Queries.Application - before.Queries.Application, after.Queries.Own
	}
	dbtest.Eventually(t, "ten reads without a query", func() bool {
		queries, _ := cost("/me")
		return queries == 0
	})
	// Where the pool was slow to give a connection, the store uses its own for a second.
	dbtest.Eventually(t, "ten queries for ten reads past the memory", func() bool {
		queries, own := cost("/me?fresh=1")
		return queries == 10 && own > 0
	})
}
