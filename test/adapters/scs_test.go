package adapters

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/alexedwards/scs/pgxstore"
	"github.com/alexedwards/scs/sqlite3store"
	"github.com/alexedwards/scs/v2"
	_ "modernc.org/sqlite"

	"github.com/sojourn-go/sojourn/adapters/scsstore"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// scsApp is a node of a service with scs, as it is without this module.
type scsApp struct {
	site
	manager *scs.SessionManager
	handler http.Handler
	slow    *gate
}

func newSCS(t testing.TB, store scs.Store, change func(*scs.SessionManager)) scsApp {
	a := newSCSHandler(store, change)
	a.site = serve(t, a.handler)
	return a
}

// newSCSHandler is newSCS that nobody serves yet.
func newSCSHandler(store scs.Store, change func(*scs.SessionManager)) scsApp {
	m := scs.New()
	m.Store = store
	if change != nil {
		change(m)
	}
	a := scsApp{manager: m, slow: newGate()}
	mux := http.NewServeMux()
	handle := func(path string, do func(ctx context.Context, r *http.Request) (string, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			text, err := do(r.Context(), r)
			if err != nil {
				text = err.Error()
			}
			fmt.Fprintln(w, text)
		})
	}
	handle("/login", func(ctx context.Context, r *http.Request) (string, error) {
		err := m.RenewToken(ctx)
		m.Put(ctx, "user", r.FormValue("user"))
		return "", err
	})
	handle("/planted", func(ctx context.Context, r *http.Request) (string, error) { // a login without RenewToken
		m.Put(ctx, "user", r.FormValue("user"))
		return "", nil
	})
	handle("/who", func(ctx context.Context, _ *http.Request) (string, error) { return m.GetString(ctx, "user"), nil })
	handle("/slow", func(ctx context.Context, _ *http.Request) (string, error) {
		who := m.GetString(ctx, "user")
		a.slow.wait()
		return who, nil
	})
	handle("/slowput", func(ctx context.Context, r *http.Request) (string, error) {
		a.slow.wait()
		m.Put(ctx, r.FormValue("key"), "set")
		return "", nil
	})
	handle("/put", func(ctx context.Context, r *http.Request) (string, error) {
		m.Put(ctx, r.FormValue("key"), "set")
		return "", nil
	})
	handle("/has", func(ctx context.Context, r *http.Request) (string, error) {
		return m.GetString(ctx, r.FormValue("key")), nil
	})
	handle("/logout", func(ctx context.Context, _ *http.Request) (string, error) { return "", m.Destroy(ctx) })
	handle("/renew", func(ctx context.Context, _ *http.Request) (string, error) { return "", m.RenewToken(ctx) })
	a.handler = m.LoadAndSave(mux)
	return a
}

// login returns the browser's cookie.
func (a scsApp) login(user string) *http.Cookie {
	a.t.Helper()
	got := a.get("/login?user="+user, nil)
	if got.cookie == nil {
		a.t.Fatalf("login: no cookie, status %d: %s", got.status, got.body)
	}
	return got.cookie
}

func withIdleTimeout(m *scs.SessionManager) { m.IdleTimeout = time.Hour }

// adapted returns a service of two nodes on our store.
func adapted(t testing.TB, nodes [2]session.Store, opts scsstore.Options, change func(*scs.SessionManager)) (a, b scsApp) {
	var apps [2]scsApp
	for i, s := range nodes {
		store, err := scsstore.New(s, opts)
		if err != nil {
			t.Fatal(err)
		}
		apps[i] = newSCS(t, store, change)
	}
	return apps[0], apps[1]
}

const scsTable = "CREATE TABLE sessions (token TEXT PRIMARY KEY, data %s NOT NULL, expiry %s NOT NULL)"

func scsOnPostgres(t testing.TB) scs.Store {
	pool := dbtest.Pool(t, dbtest.Postgres(t).Database(t), nil)
	if _, err := pool.Exec(t.Context(), fmt.Sprintf(scsTable, "BYTEA", "TIMESTAMPTZ")); err != nil {
		t.Fatal(err)
	}
	return pgxstore.NewWithCleanupInterval(pool, 0)
}

func scsOnSQLite(t testing.TB) scs.Store {
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "theirs.db")+"?_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.ExecContext(t.Context(), fmt.Sprintf(scsTable, "BLOB", "REAL")); err != nil {
		t.Fatal(err)
	}
	return sqlite3store.NewWithCleanupInterval(db, 0)
}

// nobody checks that a cookie opens nothing on either node, now and later.
func nobody(t testing.TB, cookie *http.Cookie, nodes ...site) {
	t.Helper()
	nobodyIn(t, cookie, "", nodes...)
}

// nobodyIn is nobody for an application that says so by other words.
func nobodyIn(t testing.TB, cookie *http.Cookie, words string, nodes ...site) {
	t.Helper()
	for range 2 {
		for _, n := range nodes {
			dbtest.Eventually(t, "the node knows that the session has ended", func() bool {
				return n.get("/who", cookie).body == words
			})
		}
	}
}

// scs commits at the end of every request when there is an idle timeout. So a request
// that only reads, and is slower than a logout, brings the session back.
func TestSCSLogoutIsFinal(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, db database) {
		store := db.scs(t)
		a, b := newSCS(t, store, withIdleTimeout), newSCS(t, store, withIdleTimeout)
		alice := a.login("alice")
		a.during("/slow", alice, a.slow, func() { b.get("/logout", alice) })
		b.says("/who", alice, "alice") // the defect, with scs's own store

		for _, hashed := range []bool{false, true} {
			a, b = adapted(t, db.open(t), scsstore.Options{}, func(m *scs.SessionManager) {
				m.IdleTimeout, m.HashTokenInStore = time.Hour, hashed
			})
			alice = a.login("alice")
			b.says("/who", alice, "alice")
			slow := a.during("/slow", alice, a.slow, func() { b.get("/logout", alice); b.says("/who", alice, "") })
			if slow.status != http.StatusOK || slow.body != "alice" {
				t.Errorf("the slow request: status %d, %q", slow.status, slow.body)
			}
			nobody(t, alice, a.site, b.site)
			// One that changes values cannot either, on the node of the logout.
			alice = a.login("alice")
			a.during("/slowput?key=k", alice, a.slow, func() { a.get("/logout", alice) })
			nobody(t, alice, a.site, b.site)
		}
	})
}

// The same request brings the token back that a login or a change of rights has renewed.
func TestSCSRenewedTokenStaysDead(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, db database) {
		store := db.scs(t)
		a, b := newSCS(t, store, withIdleTimeout), newSCS(t, store, withIdleTimeout)
		old := a.login("alice")
		a.during("/slow", old, a.slow, func() { b.get("/renew", old) })
		b.says("/who", old, "alice") // the defect, with scs's own store

		a, b = adapted(t, db.open(t), scsstore.Options{}, withIdleTimeout)
		old = a.login("alice")
		var renewed *http.Cookie
		a.during("/slow", old, a.slow, func() { renewed = b.get("/renew", old).cookie })
		nobody(t, old, a.site, b.site)
		a.says("/who", renewed, "alice")
		b.says("/who", renewed, "alice")
	})
}

// Iterate tells scs the hash of a token as the token, and Destroy hashes that again.
func TestSCSIterateDestroys(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, db database) {
		logOutEverywhere := func(m *scs.SessionManager) (met int) {
			if err := m.Iterate(t.Context(), func(ctx context.Context) error {
				if m.GetString(ctx, "user") != "alice" {
					return nil
				}
				met++
				return m.Destroy(ctx)
			}); err != nil {
				t.Fatal(err)
			}
			return met
		}
		hash := func(m *scs.SessionManager) { m.HashTokenInStore = true }
		a := newSCS(t, db.scs(t), hash)
		alice := a.login("alice")
		if met := logOutEverywhere(a.manager); met != 1 {
			t.Errorf("Iterate has met %d sessions", met)
		}
		a.says("/who", alice, "alice") // the defect, with scs's own store

		for _, hashed := range []bool{true, false} {
			nodes := db.open(t)
			a, b := adapted(t, nodes, scsstore.Options{}, func(m *scs.SessionManager) { m.HashTokenInStore = hashed })
			alice, phone, bob := a.login("alice"), b.login("alice"), a.login("bob")
			other, err := session.NewManager(nodes[0], session.Options{}) // its sessions are none of scs's
			if err != nil {
				t.Fatal(err)
			}
			s, err := other.Open(t.Context(), "")
			if err == nil {
				err = s.Login(t.Context(), "alice", session.Login{})
			}
			if err == nil {
				err = s.End(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			if met := logOutEverywhere(a.manager); met != 2 {
				t.Errorf("Iterate has met %d sessions", met)
			}
			nobody(t, alice, a.site, b.site)
			nobody(t, phone, a.site, b.site)
			a.says("/who", bob, "bob")

			// What Iterate gives opens nothing, and makes nothing.
			all, err := a.manager.Store.(scs.IterableCtxStore).AllCtx(t.Context())
			if err != nil || len(all) != 1 {
				t.Fatalf("AllCtx: %d sessions, %v", len(all), err)
			}
			for alias := range all {
				cookie := &http.Cookie{Name: "session", Value: alias}
				a.says("/who", cookie, "")
				if err := a.manager.Iterate(t.Context(), func(ctx context.Context) error {
					_, _, err := a.manager.Commit(ctx)
					return err
				}); err == nil {
					t.Error("Iterate could commit a session")
				}
				a.says("/who", cookie, "")
			}
		}
	})
}

// scs writes all values at once. No store can tell which ones a request has changed.
func TestSCSLosesUpdatesOnAnyStore(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, db database) {
		a, _ := adapted(t, db.open(t), scsstore.Options{}, nil)
		alice := a.login("alice")
		a.during("/slowput?key=one", alice, a.slow, func() { a.get("/put?key=two", alice) })
		a.says("/has?key=one", alice, "set")
		a.says("/has?key=two", alice, "")
	})
}

func TestSCSUserIsLoggedOutEverywhere(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, db database) {
		for _, hashed := range []bool{false, true} {
			nodes := db.open(t)
			opts := scsstore.Options{
				Codec: scs.GobCodec{},
				User:  func(values map[string]any) string { user, _ := values["user"].(string); return user },
			}
			a, b := adapted(t, nodes, opts, func(m *scs.SessionManager) { m.IdleTimeout, m.HashTokenInStore = time.Hour, hashed })
			visitor := a.get("/put?key=cart", nil).cookie
			laptop, phone, bob := a.get("/login?user=alice", visitor).cookie, b.login("alice"), b.login("bob")
			a.says("/has?key=cart", laptop, "set")
			store := a.manager.Store.(*scsstore.Store)
			if n, err := store.DestroyUser(t.Context(), "alice", laptop.Value); n != 1 || err != nil {
				t.Errorf("DestroyUser but one = %d, %v; want 1, nil", n, err)
			}
			nobody(t, phone, a.site, b.site)
			a.says("/who", laptop, "alice")
			if n, err := store.DestroyUser(t.Context(), "alice"); n != 1 || err != nil {
				t.Errorf("DestroyUser = %d, %v; want 1, nil", n, err)
			}
			nobody(t, laptop, a.site, b.site)
			a.says("/who", bob, "bob")

			// A token that was there before the login may be somebody else's.
			if got := a.get("/planted?user=alice", bob); got.status != http.StatusInternalServerError {
				t.Errorf("another user under the same token: status %d", got.status)
			}
			a.says("/who", bob, "bob")
		}
	})
}

// How long after the answer to a logout another node still serves the session.
func BenchmarkSCSLogoutOnAnotherNode(b *testing.B) {
	var took []time.Duration
	x, y := adapted(b, openPostgres(b), scsstore.Options{}, withIdleTimeout)
	for b.Loop() {
		alice := x.login("alice")
		y.says("/who", alice, "alice")
		y.says("/who", alice, "alice")
		x.get("/logout", alice)
		for start := time.Now(); ; {
			if y.get("/who", alice).body == "" {
				took = append(took, time.Since(start))
				break
			}
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "longest-ms")
}
