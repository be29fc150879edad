package main

import (
	"context"
	"encoding/json"
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
)

// newNode is a node's HTTP side with a store on a schema of its own.
func newNode(t *testing.T) (http.Handler, *pgstore.Store) {
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
	return newServer(nodeConfig{Name: "node 1"}, store, queries, zap.NewNop()).handler(), store
}

// ask sends a request with a cookie and reads the answer's JSON into reply.
func ask(t *testing.T, h http.Handler, method, path, id string, form url.Values, reply any) (cookie string) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		r.AddCookie(&http.Cookie{Name: cookieName, Value: id})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	answer := w.Result()
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
	h, store := newNode(t)
	logIn := func(user string) (id string, v view) {
		id = ask(t, h, "POST", "/login?user="+user, "", nil, &v)
		return id, v
	}
	mine, _ := logIn("alice")
	_, other := logIn("alice")
	_, third := logIn("alice")
	_, foreign := logIn("bob")
	var reply struct{ Ended int }
	ask(t, h, "POST", "/revoke", mine, url.Values{"key": {other.Key, foreign.Key, "nonsense"}}, &reply)
	if reply.Ended != 1 {
		t.Errorf("%d ended", reply.Ended)
	}
	var left []device
	ask(t, h, "GET", "/sessions", mine, nil, &left)
	if len(left) != 2 || left[1].Key != third.Key {
		t.Errorf("left: %+v", left)
	}
	if n, err := store.CountUser(t.Context(), "bob"); err != nil || n != 1 {
		t.Errorf("another user has %d sessions, %v", n, err)
	}
}

func TestReadsCostAQueryOnlyPastTheMemory(t *testing.T) {
	t.Parallel()
	h, store := newNode(t)
	dbtest.Eventually(t, "the lease", func() bool { return store.Stats().Cache.Leased })
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
	if queries, own := cost("/me?fresh=1"); queries != 10 || own == 0 {
		t.Errorf("10 reads past the memory: %d queries; %d of the store's own until now", queries, own)
	}
}
