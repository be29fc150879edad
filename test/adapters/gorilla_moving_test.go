package adapters

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"

	"github.com/sojourn-go/sojourn/adapters/gorillastore"
	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/internal/testrig/memory"
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
	// A slow request of the old program writes it again, for itself.
	for _, at := range []gorillaApp{m.beside, m.move} {
		alice := m.login("alice")
		m.old.during("/slow?user=alice", alice, m.old.slow, func() { at.get("/logout", alice) })
		m.old.says("/who", alice, "alice")
		m.beside.says("/who", alice, noUser)
		m.move.says("/who", alice, noUser)
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

// hookedOld is a store of gorilla that does something before a certain New.
type hookedOld struct {
	sessions.Store
	mu   sync.Mutex
	n    int
	at   map[int]func() error
	save func(*sessions.Session) // before a Save
}

func (h *hookedOld) New(r *http.Request, name string) (*sessions.Session, error) {
	h.mu.Lock()
	h.n++
	do := h.at[h.n]
	h.mu.Unlock()
	if do != nil {
		if err := do(); err != nil {
			made := sessions.NewSession(h, name)
			made.IsNew = true
			return made, err
		}
	}
	return h.Store.New(r, name)
}

func (h *hookedOld) Save(r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
	h.mu.Lock()
	save := h.save
	h.save = nil
	h.mu.Unlock()
	if save != nil {
		save(s)
	}
	return h.Store.Save(r, w, s)
}

// then does something before the n-th New from now on.
func (h *hookedOld) then(n int, do func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = map[int]func() error{h.n + n: do}
}

// Between two steps of a request that moves a session another one does all of them.
func TestAGorillaMoveThatIsOvertaken(t *testing.T) {
	t.Parallel()
	nodes := openSQLite(t)
	for n := 1; n <= 4; n++ { // /save asks the old store so often
		for _, ends := range []string{"", "/logout", "old"} {
			h := &hookedOld{Store: oldGorillas(t)["files"]}
			m := newGorillaMove(t, nodes, h)
			alice := m.login("alice")
			var ours *http.Cookie
			h.then(n, func() error {
				if ends != "old" {
					ours = m.move.get("/save", alice).cookie
				}
				if ends == "/logout" {
					m.move.get("/logout", ours)
				} else if ends == "old" {
					m.old.get("/logout", alice)
				}
				return nil
			})
			got := m.move.get("/save", alice)
			if ours == nil {
				ours = got.cookie
			}
			want := "alice"
			if ends != "" {
				want = noUser
			}
			for _, node := range []gorillaApp{m.beside, m.move} {
				if ours != nil {
					node.says("/who", ours, want)
				}
			}
			if ends == "" && (got.status != http.StatusOK || got.body != "") {
				t.Errorf("%d: the request is told %d %q", n, got.status, got.body)
			}
		}
	}
}

// A failure of the old store ends nothing, and its text is not told.
func TestGorillaOldFails(t *testing.T) {
	t.Parallel()
	nodes := openSQLite(t)
	for n := 1; n <= 4; n++ {
		h := &hookedOld{Store: oldGorillas(t)["files"]}
		m := newGorillaMove(t, nodes, h)
		alice := m.login("alice")
		h.then(n, func() error { return errors.New("timeout of session_SECRET") })
		if got := m.move.get("/save", alice); got.body == "" || got.body == "ended" || strings.Contains(got.body, "SECRET") {
			t.Errorf("%d: it is told %d %q", n, got.status, got.body)
		}
		m.beside.says("/who", alice, "alice")
		ours := m.move.get("/save", alice).cookie
		m.beside.says("/who", ours, "alice")
	}
}

// A request that only reads finds a claim, and meanwhile another one completes it.
func TestAGorillaReadOfAClaim(t *testing.T) {
	t.Parallel()
	h := &hookedOld{Store: oldGorillas(t)["files"]}
	m := newGorillaMove(t, openSQLite(t), h)
	alice := m.login("alice")
	h.then(3, func() error { return errors.New("timeout") })
	m.move.get("/save", alice) // leaves a claim
	m.beside.says("/who", alice, "alice")
	h.then(2, func() error { m.move.get("/save", alice); return nil })
	m.beside.says("/who", alice, "alice")

	bob := m.login("bob")
	h.then(3, func() error { return errors.New("timeout") })
	m.move.get("/save", bob)
	m.old.get("/logout", bob)
	m.beside.says("/who", bob, noUser)
	if got := m.move.get("/save", bob); got.cookie != nil && m.move.get("/who", got.cookie).body == "bob" {
		t.Error("it has come back")
	}
}

func TestAGorillaWriteBesideAMoveIsKept(t *testing.T) {
	t.Parallel()
	nodes := openSQLite(t)
	h := &hookedOld{Store: oldGorillas(t)["files"]}
	m := newGorillaMove(t, nodes, h)
	alice := m.login("alice")
	var ours *http.Cookie
	h.save = func(*sessions.Session) { ours = m.move.get("/save", alice).cookie }
	if got := m.beside.get("/set?user=bob", alice); got.status != http.StatusOK || got.body != "" {
		t.Errorf("the write is told %d %q", got.status, got.body)
	}
	m.move.says("/who", ours, "bob")
}

// Whoever planted the cookie is not logged in with its owner.
func TestALoginThatMovesASessionLeavesItsOldCookie(t *testing.T) {
	t.Parallel()
	for name, old := range oldGorillas(t) {
		for _, moved := range []bool{false, true} {
			m := newGorillaMove(t, openSQLite(t), old)
			planted := m.login("nobody")
			if moved {
				m.move.get("/save", planted)
			}
			ours := m.move.get("/login?user=alice", planted).cookie
			m.beside.says("/who", ours, "alice")
			for _, node := range []gorillaApp{m.beside, m.move} {
				if got := node.get("/who", planted); got.body == "alice" {
					t.Errorf("%s, moved before: %v: the planted cookie opens %q", name, moved, got.body)
				}
			}
		}
	}
}

// A cookie that holds the session cannot be ended, and outlasts Config.Lifetime.
func TestAnOldCookieStaysDead(t *testing.T) {
	t.Parallel()
	start, ahead := time.Now(), time.Duration(0)
	kept := memory.Open(t, func() time.Time { return start.Add(ahead) })
	old := oldGorillas(t)["cookies"]
	store, err := gorillastore.New(kept, gorillastore.Config{Old: old, Phase: moving.Move, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	app := serveGorilla(t, store)
	alice := serveGorilla(t, old).get("/set?user=alice", nil).cookie
	ours := app.get("/save", alice).cookie
	app.get("/logout", ours)
	for range 29 {
		ahead += 24 * time.Hour
		if _, err := kept.PruneNow(t.Context()); err != nil {
			t.Fatal(err)
		}
		app.says("/who", alice, noUser)
	}
}

// bareOld returns sessions without Options.
type bareOld struct{ sessions.Store }

func (b bareOld) New(r *http.Request, name string) (*sessions.Session, error) {
	s, err := b.Store.New(r, name)
	s.Options = nil
	return s, err
}

func TestAnOldSessionWithoutOptions(t *testing.T) {
	t.Parallel()
	own := oldGorillas(t)["files"]
	m := newGorillaMove(t, openSQLite(t), own)
	alice, bob := m.login("alice"), m.login("bob")
	bare := newGorillaMove(t, openSQLite(t), bareOld{own})
	bare.beside.says("/who", alice, "alice")
	ours := bare.move.get("/save", alice).cookie
	bare.beside.says("/who", ours, "alice")
	bare.move.get("/logout", bob)
	m.old.get("/who", bob)
	bare.beside.get("/set?user=carol", nil)
}
