package adapters

import (
	"errors"
	"net/http"
	"testing"

	"github.com/gorilla/sessions"

	"github.com/sojourn-go/sojourn/adapters/gorillastore"
	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/session"
)

// gorillaMove is a service of which one node runs the old program, one is beside it and
// one moves sessions.
type gorillaMove struct {
	old, beside, move gorillaApp
	behind            session.Store
}

func newGorillaMove(t testing.TB, nodes [2]session.Store, old sessions.Store) gorillaMove {
	m := gorillaMove{old: serveGorilla(t, old), behind: nodes[0]}
	m.beside = newGorilla(t, nodes[0], gorillastore.Config{Old: old})
	store, err := movingGorilla(nodes[1], old, moving.Move)
	if err != nil {
		t.Fatal(err)
	}
	m.move = serveGorilla(t, store)
	m.move.store = store.(*gorillastore.Store)
	return m
}

func (m gorillaMove) login(user string) *http.Cookie { return m.old.get("/set?user="+user, nil).cookie }

// live is how many sessions our store has.
func (m gorillaMove) live(t testing.TB) int64 {
	n, err := m.behind.(session.Lister).Len(t.Context())
	if err != nil {
		t.Error(err)
	}
	return n
}

func oldGorillas(t testing.TB) map[string]sessions.Store {
	key := []byte("a key of thirty-two bytes, or so")
	files, cookies := sessions.NewFilesystemStore(t.TempDir(), key), sessions.NewCookieStore(key)
	files.Options.Secure, cookies.Options.Secure = false, false // the test speaks plain HTTP
	return map[string]sessions.Store{"files": files, "cookies": cookies}
}

func TestGorillaMovesWithoutALogout(t *testing.T) {
	t.Parallel()
	for name, old := range oldGorillas(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newGorillaMove(t, openSQLite(t), old)
			alice := m.login("alice")
			m.beside.says("/who", alice, "alice")
			alice = m.beside.get("/set?user=bob", alice).cookie
			m.old.says("/who", alice, "bob")
			m.move.says("/who", alice, "bob") // which moves nothing

			moved := m.move.get("/save", alice)
			ours := moved.cookie
			if ours.Name != "__Host-"+gorillaName || m.live(t) != 1 || m.move.store.Progress() != (moving.Progress{Moved: 1}) {
				t.Fatalf("the cookie is %s, %d sessions are here, %+v", ours.Name, m.live(t), m.move.store.Progress())
			}
			for _, node := range []gorillaApp{m.move, m.beside} {
				node.says("/who", ours, "bob")
				node.says("/who", alice, "bob") // a parallel request
			}
			if got := m.old.get("/who", alice); name == "files" && got.body == "bob" {
				t.Error("the old program still finds it")
			}
			m.move.get("/set?user=carol", alice) // a parallel one writes the same session
			m.beside.says("/who", ours, "carol")
			if got := m.beside.get("/save", alice); got.cookie != nil || m.live(t) != 1 {
				t.Errorf("a parallel request has made a session: %v, %d sessions", got.cookie, m.live(t))
			}
			m.beside.get("/logout", ours)
			for _, node := range []gorillaApp{m.move, m.beside} {
				node.says("/who", ours, noUser)
				node.says("/who", alice, noUser)
			}
			// Whoever logs in then begins anew, where new ones begin.
			again := m.move.get("/set?user=dave", alice).cookie
			m.beside.says("/who", again, "dave")
			again = m.beside.get("/set?user=erin", nil).cookie
			m.old.says("/who", again, "erin")
		})
	}
}

func TestGorillaThatMovesBringsNothingBack(t *testing.T) {
	t.Parallel()
	m := newGorillaMove(t, openSQLite(t), oldGorillas(t)["files"])
	for _, slow := range []gorillaApp{m.beside, m.move} {
		for _, at := range []gorillaApp{m.old, m.beside, m.move} {
			alice := m.login("alice")
			got := slow.during("/slow?user=alice", alice, slow.slow, func() { at.get("/logout", alice) })
			if got.status == http.StatusOK && got.body == "" {
				t.Errorf("the slow request is told %d %q", got.status, got.body)
			}
			for _, node := range []gorillaApp{m.old, m.beside, m.move} {
				if node.get("/who", alice).body == "alice" {
					t.Error("a slow request has brought a session back")
				}
			}
		}
	}
	if n := m.live(t); n != 0 {
		t.Errorf("%d sessions live", n)
	}
}

func TestOfGorillasParallelRequestsOneMoves(t *testing.T) {
	t.Parallel()
	m := newGorillaMove(t, openSQLite(t), oldGorillas(t)["files"])
	alice := m.login("alice")
	var ours *http.Cookie
	slow := m.move.during("/slow?user=late", alice, m.move.slow, func() { ours = m.move.get("/save", alice).cookie })
	if slow.cookie != nil || slow.status != http.StatusOK || slow.body != "" || m.live(t) != 1 {
		t.Errorf("the slow request: %+v; %d sessions", slow, m.live(t))
	}
	m.beside.says("/who", ours, "late")
}

func TestGorillaHasNoWayBack(t *testing.T) {
	t.Parallel()
	old := oldGorillas(t)["files"]
	if _, err := gorillastore.New(inMemory(t), gorillastore.Config{Old: old, Phase: moving.Return}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Return: %v", err)
	}
	if _, err := gorillastore.New(inMemory(t), gorillastore.Config{Old: old, Phase: 7}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("no phase: %v", err)
	}
	if _, err := gorillastore.New(unexplained{inMemory(t).(putting)}, gorillastore.Config{Old: old}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a store that is no Explainer: %v", err)
	}
}

type putting interface {
	session.Store
	session.Putter
}

type unexplained struct{ putting }
