package adapters

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	sessionv2 "github.com/gofiber/fiber/v2/middleware/session"
	"github.com/gofiber/fiber/v3"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"
	"github.com/gorilla/sessions"

	"github.com/sojourn-go/sojourn/adapters/fiberstore"
	"github.com/sojourn-go/sojourn/adapters/gorillastore"
	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/adapters/scsstore"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// What docs/migrating.md shows for scs.
func movingSCS(kept session.Store, old scs.Store, phase moving.Phase) (*scs.SessionManager, error) {
	store, err := scsstore.New(kept, scsstore.Options{Old: old, Phase: phase})
	if err != nil {
		return nil, err
	}
	manager := scs.New()
	manager.Store = store
	return manager, nil
}

// What docs/migrating.md shows for gorilla, gin and echo.
func movingGorilla(kept session.Store, old sessions.Store, phase moving.Phase) (sessions.Store, error) {
	store, err := gorillastore.New(kept, gorillastore.Config{Old: old, Phase: phase})
	if err != nil {
		return nil, err
	}
	return store, nil
}

// What docs/migrating.md shows for Fiber.
func movingFiber(kept session.Store, old fiber.Storage, phase moving.Phase) (fibersession.Config, error) {
	storage, err := fiberstore.New(kept, fiberstore.Options{Old: old, Phase: phase})
	if err != nil {
		return fibersession.Config{}, err
	}
	return fibersession.Config{
		Storage: storage, KeyGenerator: storage.NewKey,
		CookieSecure: true, CookieHTTPOnly: true,
	}, nil
}

// In the table of scs's own stores, hashed tokens or not.
func TestSCSMovesWithoutALogout(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, db database) {
		for _, hashed := range []bool{false, true} {
			set := func(m *scs.SessionManager) { m.IdleTimeout, m.HashTokenInStore = time.Hour, hashed }
			own := db.scs(t)
			old, nodes := newSCS(t, own, set), db.open(t)
			node := func(i int, phase moving.Phase) scsApp {
				m, err := movingSCS(nodes[i], own, phase)
				if err != nil {
					t.Fatal(err)
				}
				return newSCS(t, m.Store, set)
			}
			beside, move, back := node(0, moving.Beside), node(1, moving.Move), node(0, moving.Return)
			alice, bob := old.login("alice"), beside.login("bob")
			beside.says("/who", alice, "alice")
			old.says("/who", bob, "bob")
			move.says("/who", alice, "alice")
			old.says("/who", alice, "")
			beside.says("/who", alice, "alice")
			move.get("/put?key=k", alice)
			carol := move.login("carol")
			beside.says("/who", carol, "carol")

			met := map[string]bool{}
			if err := move.manager.Iterate(t.Context(), func(ctx context.Context) error {
				met[move.manager.GetString(ctx, "user")] = true
				return nil
			}); err != nil || len(met) != 3 {
				t.Errorf("Iterate has met %v, %v", met, err)
			}

			back.says("/who", alice, "alice")
			old.says("/has?key=k", alice, "set")
			back.get("/logout", alice)
			beside.get("/logout", bob)
			for _, cookie := range []*http.Cookie{alice, bob} {
				old.says("/who", cookie, "")
				nobody(t, cookie, beside.site, move.site)
			}
			if p := move.manager.Store.(*scsstore.Store).Progress(); p != (moving.Progress{Moved: 1}) {
				t.Errorf("the node that moves: %+v", p)
			}
		}
	})
}

// A request of the old program that is slower than a logout writes the session again.
func TestSCSThatMovesBringsNothingBack(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, db database) {
		own := db.scs(t)
		old := newSCS(t, own, withIdleTimeout)
		var apps [2]scsApp
		for i, kept := range db.open(t) {
			m, err := movingSCS(kept, own, moving.Phase(i))
			if err != nil {
				t.Fatal(err)
			}
			apps[i] = newSCS(t, m.Store, withIdleTimeout)
		}
		for _, at := range apps {
			for _, slow := range []scsApp{old, apps[0], apps[1]} {
				alice := old.login("alice")
				slow.during("/slow", alice, slow.slow, func() { at.get("/logout", alice) })
				nobody(t, alice, apps[0].site, apps[1].site)
			}
		}
	})
}

// mapStorage is a storage of Fiber's version 2 and 3.
type mapStorage struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (s *mapStorage) Get(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data[key], nil
}

func (s *mapStorage) Set(key string, val []byte, _ time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data[key] = val
	return nil
}

func (s *mapStorage) Delete(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.data, key)
	return nil
}

func (s *mapStorage) Reset() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.data)
	return nil
}

func (*mapStorage) Close() error { return nil }

// ctxStorage is one of version 3, whose contexts count.
type ctxStorage struct{ *mapStorage }

func (s ctxStorage) GetWithContext(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.Get(key)
}

func (s ctxStorage) SetWithContext(ctx context.Context, key string, val []byte, exp time.Duration) error {
	return errors.Join(ctx.Err(), s.Set(key, val, exp))
}

func (s ctxStorage) DeleteWithContext(ctx context.Context, key string) error {
	return errors.Join(ctx.Err(), s.Delete(key))
}

func (s ctxStorage) ResetWithContext(ctx context.Context) error {
	return errors.Join(ctx.Err(), s.Reset())
}

func TestFiberMovesWithoutALogout(t *testing.T) {
	t.Parallel()
	own := ctxStorage{&mapStorage{data: map[string][]byte{}}}
	theirs := &mapStorage{data: map[string][]byte{}}
	nodes := openSQLite(t)
	var v3 [3]fiberApp
	var v2 [3]fiberApp
	for i := range v3 {
		cfg, err := movingFiber(nodes[i%2], own, moving.Phase(i))
		if err != nil {
			t.Fatal(err)
		}
		v3[i] = newFiber(t, cfg)
		storage, err := fiberstore.New(nodes[i%2], fiberstore.Options{Name: "v2", Old: theirs, Phase: moving.Phase(i)})
		if err != nil {
			t.Fatal(err)
		}
		v2[i] = newFiberV2(t, sessionv2.Config{Storage: storage, KeyGenerator: storage.NewKey})
	}
	for name, tt := range map[string]struct {
		old   fiberApp
		nodes [3]fiberApp
		keeps *mapStorage
	}{
		"version 3": {newFiber(t, fibersession.Config{Storage: own}), v3, own.mapStorage},
		"version 2": {newFiberV2(t, sessionv2.Config{Storage: theirs}), v2, theirs},
	} {
		beside, move, back := tt.nodes[moving.Beside], tt.nodes[moving.Move], tt.nodes[moving.Return]
		alice := tt.old.get("/set?user=alice", nil).cookie
		beside.says("/who", alice, "alice")
		move.says("/who", alice, "alice")
		if n := len(tt.keeps.data); n != 0 {
			t.Errorf("%s: %d sessions are in the old storage", name, n)
		}
		beside.says("/who", alice, "alice")
		back.says("/who", alice, "alice")
		tt.old.says("/who", alice, "alice")
		slow := tt.old
		slow.during("/slow", alice, slow.slow, func() { move.get("/logout", alice) })
		tt.old.says("/who", alice, "alice") // the old program has brought it back, for itself
		for _, node := range tt.nodes {
			node.says("/who", alice, noUser)
		}
	}
	storage, err := fiberstore.New(nodes[0], fiberstore.Options{Old: own})
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.Reset(); err != nil || len(own.data) != 0 {
		t.Errorf("Reset: %v, %d sessions are left in the old storage", err, len(own.data))
	}
}

// What docs/migrating.md shows for the tables of Express.
func managerAfterExpress(kept session.Store, table *nodestore.Store, secrets []session.Secret) (*session.Manager, error) {
	app, err := nodestore.NewExpress(table, nodestore.ExpressOptions{
		Secrets: secrets, User: []string{"passport", "user"},
	})
	if err != nil {
		return nil, err
	}
	return session.NewManager(kept, session.Options{Old: app.Old()})
}

// What docs/migrating.md shows for scs.
type scsSessions struct{ store scs.Store }

func (o scsSessions) Token(r *http.Request) (token string, genuine bool) {
	cookie, err := r.Cookie("session")
	if err != nil {
		return "", false
	}
	return cookie.Value, false // scs signs nothing
}

func (o scsSessions) Load(_ context.Context, token string) (session.OldSession, error) {
	data, found, err := o.store.Find(token)
	if err != nil {
		return session.OldSession{}, err
	}
	deadline, values, err := scs.GobCodec{}.Decode(data)
	if !found || err != nil {
		return session.OldSession{}, session.ErrNotFound
	}
	user, _ := values["user"].(string)
	return session.OldSession{User: user, Values: values, Deadline: deadline}, nil
}

func (o scsSessions) End(_ context.Context, token string) error { return o.store.Delete(token) }

// managed serves pages with a Manager, which the test reaches by plain HTTP.
func managed(t testing.TB, m *session.Manager) site {
	return serve(t, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := session.FromContext(r.Context())
		if err != nil {
			return
		}
		if r.URL.Path == "/logout" {
			if err := s.Logout(r.Context()); err != nil {
				t.Error(err)
			}
		}
		fmt.Fprintln(w, s.User())
	})))
}

// Two nodes with a Manager take over what scs and Express had.
func TestAManagerTakesOver(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, db database) {
		own, nodes := db.scs(t), db.open(t)
		old := newSCS(t, own, nil)
		var sites [2]site
		for i, kept := range nodes {
			m, err := session.NewManager(kept, session.Options{
				Old: scsSessions{own}, HTTPS: func(*http.Request) bool { return true },
			})
			if err != nil {
				t.Fatal(err)
			}
			sites[i] = managed(t, m)
		}
		alice := old.login("alice")
		first := sites[0].get("/", alice)
		if first.body != "alice" || first.cookie == nil || first.cookie.Name != "__Host-session" {
			t.Fatalf("the first request: %q, cookie %v", first.body, first.cookie)
		}
		for range 2 {
			for _, s := range sites {
				s.says("/", first.cookie, "alice")
				s.says("/", alice, "alice") // a parallel request
			}
		}
		old.says("/who", alice, "")
		bob := old.login("bob")
		old.during("/slowput?key=k", bob, old.slow, func() { sites[1].get("/logout", bob) })
		old.says("/who", bob, "bob") // the old program has brought it back, for itself
		sites[1].get("/logout", first.cookie)
		for _, cookie := range []*http.Cookie{first.cookie, alice, bob} {
			for _, s := range sites {
				dbtest.Eventually(t, "the node knows that the session has ended", func() bool { return s.get("/", cookie).body == "" })
			}
		}
	})
}

func TestAManagerTakesOverFromExpress(t *testing.T) {
	t.Parallel()
	table := expressTable(t)
	const sid = "Ef7mJ0aV3kQ-xw_9LzTgYcB2NdR5sHpU"
	row := `{"cookie":{"originalMaxAge":86400000,"httpOnly":true,"path":"/"},"passport":{"user":"zoe"}}`
	if err := table.Set(t.Context(), sid, []byte(row)); err != nil {
		t.Fatal(err)
	}
	m, err := managerAfterExpress(inMemory(t), table, session.Secrets("keyboard cat"))
	if err != nil {
		t.Fatal(err)
	}
	// As cookie-signature signs it with that secret.
	cookie := "connect.sid=s%3A" + sid + ".A6XpXohwz%2FxtqdhuyYmfviip%2F9EDInd4wQHE6%2BmAr6U"
	for range 2 { // then by our cookie
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://shop.example/", nil)
		r.Header.Set("Cookie", cookie)
		w, who := httptest.NewRecorder(), ""
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if s, err := session.FromContext(r.Context()); err == nil {
				who = s.User()
			}
		})).ServeHTTP(w, r)
		if who != "zoe" || w.Code != http.StatusOK {
			t.Errorf("the user is %q, status %d", who, w.Code)
		}
		if set := w.Result().Cookies(); len(set) > 0 {
			cookie = set[0].Name + "=" + set[0].Value
		}
	}
	if n, err := table.Len(t.Context()); n != 0 || err != nil {
		t.Errorf("%d rows are left, %v", n, err)
	}
}

// expressTable is connect-sqlite3's table, without sessions.
func expressTable(t testing.TB) *nodestore.Store {
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "node.db")+"?_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	table, err := nodestore.New(t.Context(), db, nodestore.ConnectSQLite(), nodestore.Options{CreateTable: true, PruneInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return table
}
