package places

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/adapters/internal/unversioned"
	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/internal/testrig/memory"
	"github.com/sojourn-go/sojourn/memstore"
	"github.com/sojourn-go/sojourn/session"
)

// oldStore is a framework's store, and what the old program does in it.
type oldStore struct {
	mu       sync.Mutex
	sessions map[string]string
	deletes  int
	// first is done before the next call of that name, then after it.
	first, then map[string]func()
	fail        error
}

func (o *oldStore) call(name string, do func()) error {
	o.mu.Lock()
	first := o.first[name]
	delete(o.first, name)
	if first != nil {
		o.mu.Unlock()
		first()
		o.mu.Lock()
	}
	then, err := o.then[name], o.fail
	delete(o.then, name)
	if err == nil {
		do()
	}
	o.mu.Unlock()
	if then != nil {
		then()
	}
	return err
}

func (o *oldStore) Find(_ context.Context, token string) (data []byte, found bool, err error) {
	err = o.call("Find", func() {
		var text string
		text, found = o.sessions[token]
		data = []byte(text)
	})
	return data, found, err
}

func (o *oldStore) Commit(_ context.Context, token string, data []byte, lasts time.Duration) error {
	return o.call("Commit", func() {
		if o.sessions[token] = string(data); lasts < 0 {
			delete(o.sessions, token)
		}
	})
}

func (o *oldStore) setFail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail = err
}

func (o *oldStore) Delete(_ context.Context, token string) error {
	return o.call("Delete", func() { delete(o.sessions, token); o.deletes++ })
}

// has is what the old program finds.
func (o *oldStore) has(token string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sessions[token]
}

// env is a service while it moves.
type env struct {
	*testing.T
	old   *oldStore
	kept  *memstore.Store
	ahead atomic.Int64
}

func newEnv(t *testing.T) *env {
	e := &env{T: t, old: &oldStore{sessions: map[string]string{}, first: map[string]func(){}, then: map[string]func(){}}}
	start := time.Now()
	e.kept = memory.Open(t, func() time.Time { return start.Add(time.Duration(e.ahead.Load())) })
	return e
}

// node is one that runs in a phase.
type node struct {
	*Store
	e *env
}

const mark = "ours:"

func (e *env) node(phase moving.Phase) node {
	e.Helper()
	return e.nodeOn(e.kept, phase)
}

func (e *env) nodeOn(kept session.Store, phase moving.Phase) node {
	e.Helper()
	sessions, err := unversioned.New(kept)
	if err != nil {
		e.Fatal(err)
	}
	s, err := New(sessions, e.old, phase, Form{
		Wrap:   func(_ string, data []byte) []byte { return append([]byte(mark), data...) },
		Unwrap: func(data []byte) ([]byte, bool) { return bytes.CutPrefix(data, []byte(mark)) },
		About:  about,
	})
	if err != nil {
		e.Fatal(err)
	}
	return node{s, e}
}

func about(string, []byte) (unversioned.About, error) {
	return unversioned.About{Lifetime: 10 * time.Hour}, nil
}

func keyOf(token string) session.Key { return session.ForeignKey("test", token) }

// find is what the node finds; empty is nothing.
func (n node) find(token string) string {
	n.e.Helper()
	data, found, err := n.Find(n.e.Context(), token, keyOf(token))
	if err != nil || found == (data == nil) {
		n.e.Errorf("%v: Find = %q, %v, %v", n.phase, data, found, err)
	}
	if found && len(data) == 0 {
		return "a session without data"
	}
	return string(data)
}

func (n node) commit(token, data string) error {
	return n.Commit(n.e.Context(), token, []byte(data), unversioned.Write{
		Key: keyOf(token), Data: append([]byte(mark), data...), Lasts: time.Hour,
		About: func(bool) (unversioned.About, error) { return about("", nil) },
	})
}

func (n node) commits(token, data string) {
	n.e.Helper()
	if err := n.commit(token, data); err != nil {
		n.e.Errorf("%v: Commit: %v", n.phase, err)
	}
}

func (n node) ends(token string) {
	n.e.Helper()
	if _, err := n.Delete(n.e.Context(), token, keyOf(token)); err != nil {
		n.e.Errorf("%v: Delete: %v", n.phase, err)
	}
}

func (e *env) finds(token, want string, nodes ...node) {
	e.Helper()
	for _, n := range nodes {
		if got := n.find(token); got != want {
			e.Errorf("a node in phase %v finds %q; want %q", n.phase, got, want)
		}
	}
}

func TestASessionIsWhereThePhaseSays(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	beside, move, back := e.node(moving.Beside), e.node(moving.Move), e.node(moving.Return)

	e.old.sessions["a"] = "1"
	e.finds("a", "1", beside, back)
	beside.commits("a", "2")
	if e.old.has("a") != "2" {
		t.Errorf("Beside has moved it")
	}
	e.finds("a", "2", move)
	if e.old.has("a") != "" || move.Progress() != (moving.Progress{Moved: 1}) {
		t.Errorf("the old program finds %q; %+v", e.old.has("a"), move.Progress())
	}
	beside.commits("a", "3")
	e.finds("a", "3", beside, move)
	e.finds("a", "3", back)
	if e.old.has("a") != "3" || back.Progress() != (moving.Progress{Returned: 1}) {
		t.Errorf("the old program finds %q; %+v", e.old.has("a"), back.Progress())
	}
	e.old.sessions["a"] = "4" // by the old program
	e.finds("a", "4", back, beside, move, beside)
	e.finds("a", "4", back)
	move.commits("a", "5") // without a Find before
	e.finds("a", "5", move, beside)
	if e.old.has("a") != "" {
		t.Error("what moved with a Commit is still in the old store")
	}

	for _, n := range []node{beside, move, back} {
		token := n.phase.String()
		n.commits(token, "new")
		if inOld := e.old.has(token) != ""; inOld == (n.phase == moving.Move) {
			t.Errorf("%v: a new session is in the old store: %v", n.phase, inOld)
		}
		e.finds(token, "new", beside, move)
		e.finds("never", "", n)
		n.ends("never")
		e.finds("never", "", n)
	}
	if e.old.has("never") != "" {
		t.Error("a session that never was is in the old store")
	}
}

// A slow request of the old program writes again what has ended.
func TestWhatEndsStaysDeadInBothPlaces(t *testing.T) {
	t.Parallel()
	for _, ends := range []moving.Phase{moving.Beside, moving.Move, moving.Return} {
		for _, was := range []string{"old", "new", "returned"} {
			e := newEnv(t)
			nodes := []node{e.node(moving.Beside), e.node(moving.Move), e.node(moving.Return)}
			e.old.sessions["a"] = "1"
			if was != "old" {
				nodes[1].find("a")
			}
			if was == "returned" {
				nodes[2].find("a")
			}
			nodes[ends].ends("a")
			if e.old.has("a") != "" {
				t.Errorf("%v, %s: the old program still finds it", ends, was)
			}
			e.old.sessions["a"] = "1"
			e.finds("a", "", nodes...)
			for _, n := range nodes {
				if err := n.commit("a", "2"); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("%v, %s: Commit in phase %v: %v", ends, was, n.phase, err)
				}
			}
			e.finds("a", "", nodes...)
		}
	}
}

// Each case is something that happens between two steps of a node that moves a session.
func TestAMoveThatIsOvertaken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		begins string // where the session is
		phase  moving.Phase
		when   string // which call of the old store
		do     func(e *env, beside node)
		want   string
	}{
		"a logout beside, before it is claimed": {"old", moving.Move, "Find", func(_ *env, b node) { b.ends("a") }, ""},
		"a logout by the old program":           {"old", moving.Move, "Find", func(e *env, _ node) { e.old.Delete(t.Context(), "a") }, ""},
		"a save beside, before it is claimed":   {"old", moving.Move, "Find", func(_ *env, b node) { b.commits("a", "2") }, "2"},
		"a move before it looks":                {"old", moving.Beside, "before Find", func(e *env, _ node) { e.node(moving.Move).find("a") }, "1"},
		"a logout before it is given back":      {"new", moving.Return, "before Commit", func(_ *env, b node) { b.ends("a") }, ""},
		"a move by another node":                {"old", moving.Move, "Find", func(e *env, _ node) { e.node(moving.Move).find("a") }, "1"},
		"a move, and a save there": {"old", moving.Move, "Find", func(e *env, b node) {
			e.node(moving.Move).find("a")
			b.commits("a", "2")
		}, "2"},
		"a move, and a logout there": {"old", moving.Move, "Find", func(e *env, b node) {
			e.node(moving.Move).find("a")
			b.ends("a")
		}, ""},
		"moved while a node beside looks": {"old", moving.Beside, "Find", func(e *env, _ node) { e.node(moving.Move).find("a") }, "1"},
		"a logout of what is given back":  {"new", moving.Return, "Commit", func(_ *env, b node) { b.ends("a") }, ""},
		"a save of what is given back":    {"new", moving.Return, "Commit", func(_ *env, b node) { b.commits("a", "2") }, "2"},
		"given back by another node":      {"new", moving.Return, "Commit", func(e *env, _ node) { e.node(moving.Return).find("a") }, "1"},
		"a logout of what was returned":   {"returned", moving.Move, "Find", func(_ *env, b node) { b.ends("a") }, ""},
		"a save of what was returned":     {"returned", moving.Move, "Find", func(_ *env, b node) { b.commits("a", "2") }, "2"},
	} {
		e := newEnv(t)
		n, beside := e.node(tt.phase), e.node(moving.Beside)
		e.old.sessions["a"] = "1"
		if tt.begins != "old" {
			e.node(moving.Move).find("a")
		}
		if tt.begins == "returned" {
			e.node(moving.Return).find("a")
		}
		when := e.old.then
		call, before := strings.CutPrefix(tt.when, "before ")
		if before {
			when = e.old.first
		}
		when[call] = func() { tt.do(e, beside) }
		if got := n.find("a"); got != tt.want {
			t.Errorf("%s: it finds %q; want %q", name, got, tt.want)
		}
		e.finds("a", tt.want, n, beside)
		if tt.phase == moving.Move && e.old.has("a") != "" || tt.phase == moving.Return && e.old.has("a") != tt.want {
			t.Errorf("%s: the old program finds %q", name, e.old.has("a"))
		}
	}
}

// A node that commits to the old store looks again afterwards.
func TestACommitThatIsOvertaken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do   func(e *env, beside node)
		want string
	}{
		"by a move":            {func(e *env, _ node) { e.node(moving.Move).find("a") }, "2"},
		"by a move and a save": {func(e *env, b node) { e.node(moving.Move).find("a"); b.commits("a", "3") }, "2"},
		"by a logout":          {func(_ *env, b node) { b.ends("a") }, ""},
		"by a move under way":  {func(e *env, _ node) { e.announced("a") }, "2"},
	} {
		for _, before := range []bool{true, false} {
			e := newEnv(t)
			n, beside := e.node(moving.Beside), e.node(moving.Beside)
			e.old.sessions["a"] = "1"
			when := e.old.then
			if before {
				when = e.old.first
			}
			when["Commit"] = func() { tt.do(e, beside) }
			err := n.commit("a", "2")
			if ended := tt.want == ""; ended != errors.Is(err, session.ErrNotFound) || !ended && err != nil {
				t.Errorf("%s, before it: %v: Commit: %v", name, before, err)
			}
			e.finds("a", tt.want, n, e.node(moving.Move))
			if e.old.has("a") != "" {
				t.Errorf("%s, before it: %v: the old store still has %q", name, before, e.old.has("a"))
			}
		}
	}
}

// announced has a session be coming, as by a node that then died.
func (e *env) announced(token string) {
	e.Helper()
	e.old.then["Find"] = func() { e.old.setFail(errGone) }
	if _, _, err := e.node(moving.Move).Find(e.Context(), token, keyOf(token)); !errors.Is(err, errGone) {
		e.Errorf("Find: %v", err)
	}
	e.old.setFail(nil)
}

func TestWhatIsComingIsBroughtByAnybody(t *testing.T) {
	t.Parallel()
	for _, phase := range []moving.Phase{moving.Beside, moving.Move} {
		for _, returned := range []bool{false, true} {
			e := newEnv(t)
			e.old.sessions["a"] = "1"
			if returned {
				e.finds("a", "1", e.node(moving.Move), e.node(moving.Return))
			}
			e.announced("a")
			e.old.sessions["a"] = "2" // by a node that had not seen that
			e.finds("a", "2", e.node(phase))
			e.finds("a", "2", e.node(moving.Beside), e.node(moving.Move))
			if e.old.has("a") != "" {
				t.Error("it is still in the old store")
			}

			e.old.sessions["b"] = "1"
			e.announced("b")
			e.old.Delete(t.Context(), "b") // by the old program
			e.finds("b", "", e.node(phase))
			e.old.sessions["b"] = "1"
			e.finds("b", "", e.node(phase))

			e.old.sessions["c"] = "1"
			e.announced("c")
			e.node(phase).commits("c", "2")
			e.finds("c", "2", e.node(moving.Beside), e.node(moving.Move))
			if e.old.has("c") != "" {
				t.Error("what a commit brought is still in the old store")
			}
		}
	}
}

// One node at a time gives a session back, so that none overwrites what came later.
func TestWhatIsLeavingStaysUntilItIsGone(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	back, other, beside := e.node(moving.Return), e.node(moving.Return), e.node(moving.Beside)
	e.node(moving.Move).commits("a", "1")
	e.old.first["Commit"] = func() {
		e.finds("a", "1", other, beside)
		if e.old.has("a") != "" {
			t.Error("a second node gives it back")
		}
		other.commits("a", "2")
	}
	e.finds("a", "2", back)
	if e.old.has("a") != "2" {
		t.Errorf("the old program finds %q", e.old.has("a"))
	}

	e.node(moving.Move).commits("b", "1")
	e.old.setFail(errGone)
	if _, _, err := back.Find(t.Context(), "b", keyOf("b")); !errors.Is(err, errGone) {
		t.Errorf("Find: %v", err)
	}
	e.old.setFail(nil)
	e.finds("b", "1", other, beside)
	if e.old.has("b") != "" {
		t.Error("another node gives it back too early")
	}
	e.ahead.Add(int64(leavesFor + time.Second))
	e.finds("b", "1", beside)
	if e.finds("b", "1", other); e.old.has("b") != "1" {
		t.Error("nobody gives it back")
	}
}

func TestALogoutReachesTheOldStoreInAnyCase(t *testing.T) {
	t.Parallel()
	for _, phase := range []moving.Phase{moving.Beside, moving.Move, moving.Return} {
		e := newEnv(t)
		n := e.node(phase)
		e.old.sessions["a"] = "1"
		if err := e.kept.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Delete(t.Context(), "a", keyOf("a")); !errors.Is(err, session.ErrClosed) {
			t.Errorf("%v: Delete: %v", phase, err)
		}
		if e.old.has("a") != "" {
			t.Errorf("%v: the old program still finds it", phase)
		}
	}
}

// A note must outlast the idle timeout, which is for the old store to count.
func TestAReturnedSessionGoesOnInTheOldStore(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.node(moving.Move).commits("a", "1")
	e.finds("a", "1", e.node(moving.Return))
	e.ahead.Add(int64(9 * time.Hour))
	e.finds("a", "1", e.node(moving.Return), e.node(moving.Beside), e.node(moving.Move))
}

// lagging is a node's memory of what has been replaced.
type lagging struct {
	*memstore.Store
	rec session.Record
}

func (l lagging) Get(context.Context, session.Key) (session.Record, error) { return l.rec, nil }

func (l lagging) GetFresh(ctx context.Context, key session.Key) (session.Record, error) {
	return l.Store.Get(ctx, key)
}

func TestWhatANodeRemembersIsCheckedWhereItMoves(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	move, back := e.node(moving.Move), e.node(moving.Return)
	move.commits("a", "1")
	remembered := func() lagging {
		rec, err := e.kept.Get(t.Context(), keyOf("a"))
		if err != nil {
			t.Fatal(err)
		}
		return lagging{e.kept, rec}
	}
	was := remembered()
	back.find("a")
	note := remembered()
	e.finds("a", "1", e.nodeOn(was, moving.Return))
	move.find("a")
	move.commits("a", "2")
	e.old.sessions["a"] = "1" // as if it had not been deleted yet
	e.finds("a", "2", e.nodeOn(note, moving.Move))
}

func TestOfParallelMovesOneWins(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.old.sessions["a"] = "1"
	var wg sync.WaitGroup
	nodes := []node{e.node(moving.Move), e.node(moving.Move), e.node(moving.Move)}
	for i := range 30 {
		wg.Go(func() { e.finds("a", "1", nodes[i%3]) })
	}
	wg.Wait()
	var moved uint64
	for _, n := range nodes {
		moved += n.Progress().Moved
	}
	if st := e.kept.Stats(); moved != 1 || st.Creates != 1 || st.Saves != 1 || e.old.deletes != 1 {
		t.Errorf("moved %d times, %d creates, %d saves, %d deletes; want 1, 1, 1, 1", moved, st.Creates, st.Saves, e.old.deletes)
	}
}

// Calls follow each other by chance, on nodes of neighbouring phases and in the old program
// beside the first of them. All find what was written last, and nothing that has ended.
func TestCallsByChance(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		e := newEnv(t)
		beside, move, back := e.node(moving.Beside), e.node(moving.Move), e.node(moving.Return)
		running := [][]node{{beside}, {beside, move}, {move}, {beside, back}, {back}}[rnd.IntN(5)]
		oldProgram := len(running) == 1 && running[0] != move
		want, dead := map[string]string{}, map[string]bool{}
		for step := range 60 {
			n, token := running[rnd.IntN(len(running))], string(rune('a'+rnd.IntN(3)))
			data, old := fmt.Sprint(step), oldProgram && rnd.IntN(2) == 0 && n != move
			switch rnd.IntN(4) {
			case 0:
				switch {
				case old && !dead[token]:
					e.old.sessions[token], want[token] = data, data
				case !old:
					if err := n.commit(token, data); err == nil {
						want[token] = data
					} else if !dead[token] || !errors.Is(err, session.ErrNotFound) {
						t.Errorf("seed %d: Commit: %v", seed, err)
					}
				}
			case 1:
				if want[token] != "" && !old {
					n.ends(token)
					delete(want, token)
					dead[token] = true
				}
			default:
				got := n.find(token)
				if old {
					got = e.old.has(token)
				}
				if got != want[token] {
					t.Errorf("seed %d, step %d: a node in phase %v (the old program: %v) finds %q; want %q", seed, step, n.phase, old, got, want[token])
				}
			}
			if t.Failed() {
				return
			}
			if step == 30 && rnd.IntN(2) == 0 { // the next rollouts
				running, oldProgram = []node{beside, move}, false
			}
		}
	}
}

var errGone = errors.New("the old store is gone")

func TestFailuresOfTheOldStoreAreTold(t *testing.T) {
	t.Parallel()
	for _, phase := range []moving.Phase{moving.Beside, moving.Move, moving.Return} {
		e := newEnv(t)
		n := e.node(phase)
		e.old.sessions["a"], e.old.fail = "1", errGone
		_, _, found := n.Find(t.Context(), "a", keyOf("a"))
		_, ended := n.Delete(t.Context(), "a", keyOf("a"))
		for what, err := range map[string]error{"Find": found, "Delete": ended} {
			if !errors.Is(err, errGone) {
				t.Errorf("%v: %s: %v", phase, what, err)
			}
		}
		e.old.fail = nil
		e.finds("a", "1", n)
	}
}

// lame cannot tell what has ended.
type lame struct {
	session.Store
	session.Putter
}

func TestNewChecks(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	sessions, err := unversioned.New(lame{e.kept, e.kept})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(sessions, e.old, moving.Move, Form{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a store that is no Explainer: %v", err)
	}
	if sessions, err = unversioned.New(e.kept); err != nil {
		t.Fatal(err)
	}
	for _, phase := range []moving.Phase{-1, moving.Return + 1} {
		if _, err := New(sessions, e.old, phase, Form{}); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("%v: %v", phase, err)
		}
	}
}
