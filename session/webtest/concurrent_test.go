package webtest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/session"
)

// Of requests that change one session at the same time.

func concurrentCases() []webCase {
	return []webCase{
		{name: "two that write different keys lose nothing", protocols: onlyHTTP, run: twoWriters},
		{name: "of two that write the same key the last one wins", protocols: both, run: lastWins},
		{name: "concurrent updates of two counters all count", protocols: both, run: counters},
		{name: "a client without HTTP reads what it wrote, on any node", protocols: onlyHTTP, run: calls},
		{name: "changes of all sessions of a user and of their requests lose nothing", protocols: onlyHTTP, run: changesOfAll},
		{name: "flashes of concurrent requests are all there, once", protocols: both, run: flashes},
		{name: "what was there before Clear goes, what is set after it stays", protocols: both, run: clears},
		{name: "a deletion and a change of other keys meet", protocols: onlyHTTP, run: deletes},
		{name: "a save that is to fail on conflict is refused after another one, until Reload", protocols: both, run: failsOnConflict},
		{name: "a change that is to fail on conflict is answered 409", protocols: both, run: conflictAnswer},
	}
}

// twoWriters has, in each round, two requests on two nodes read the session
// before either of them writes. One of them reads past the cache, in turns, and
// finds what both have written in the round before.
func twoWriters(w *web) {
	last := rounds.Of(1000)
	nodes := []*node{w.serve(0, session.Options{}), w.serve(1, session.Options{})}
	b, _ := nodes[0].loggedIn(w.unique("user"))
	browsers := []*browser{b, b.twin(nodes[0])}
	keys := []string{"a", "b"}
	for round := 1; round <= last && !w.Failed(); round++ {
		var read sync.WaitGroup
		read.Add(2)
		all(2, func(i int) {
			arrived := sync.OnceFunc(read.Done)
			defer arrived() // also if the page is never shown
			browsers[i].silent(nodes[i], func(v *visit) {
				if round%2 == i {
					v.must("Reload", v.s.Reload(v.r.Context()))
					want(v, "a", round-1)
					want(v, "b", round-1)
				}
				v.set(keys[i], round)
				arrived()
				read.Wait()
			})
		})
	}
	b.silent(nodes[0], func(v *visit) {
		v.must("Reload", v.s.Reload(v.r.Context()))
		want(v, "a", last)
		want(v, "b", last)
	})
	for _, n := range nodes {
		n.happened(0, session.EventSaveDropped)
	}
}

func lastWins(w *web) {
	s := w.begun()
	p := s.b.begin(s.home, func(v *visit) { v.set("key", "last") }, nothing)
	s.b.silent(s.away, func(v *visit) {
		v.set("key", "first")
		v.set("other", true)
	})
	p.finish()
	s.b.silent(s.home, func(v *visit) {
		v.must("Reload", v.s.Reload(v.r.Context()))
		want(v, "key", "last")
		want(v, "other", true)
		want(v, "before", true)
	})
}

func counters(w *web) {
	const clients, each = 8, 10
	s := w.begun()
	nodes := []*node{s.home, s.away}
	all(clients, func(i int) {
		b := s.b.twin(s.home)
		for j := range each {
			b.silent(nodes[(i+j)%2], func(v *visit) {
				for _, key := range []string{"hits", "misses"} {
					v.must("Update", session.Update(v.s, key, func(n int) int { return n + 1 }))
				}
				v.must("Update", session.Update(v.s, "misses", func(n int) int { return n + i }))
				// At the end of the request it would have ten seconds, which are too few
				// for the last of so many on a slow machine.
				v.must("Save", v.s.Save(v.r.Context()))
			})
		}
	})
	s.b.silent(s.home, func(v *visit) {
		v.must("Reload", v.s.Reload(v.r.Context()))
		want(v, "hits", clients*each)
		want(v, "misses", clients*each+each*clients*(clients-1)/2)
	})
}

func calls(w *web) {
	const calls = 50
	var nodes []*session.Manager
	for i := range 2 {
		m, err := session.NewManager(w.env.node(i), session.Options{}) // a spy tells no versions
		if err != nil {
			w.Fatal(err)
		}
		nodes = append(nodes, m)
	}
	token := ""
	call := func(i int, do func(s *session.Session) error) {
		w.Helper()
		s, err := nodes[i%2].Open(w.ctx, token)
		if err != nil {
			w.Fatalf("Open: %v", err)
		}
		if err := do(s); err != nil {
			w.Errorf("call %d: %v", i, err)
		}
		if err := s.End(w.ctx); err != nil {
			w.Errorf("End: %v", err)
		}
		token = s.Token().Text()
	}
	call(0, func(s *session.Session) error { return s.Login(w.ctx, w.unique("user"), session.Login{}) })
	for i := 1; i <= calls && !w.Failed(); i++ {
		call(i, func(s *session.Session) error {
			if n, err := session.Get[int](s, "n"); err != nil || n != i-1 {
				w.Errorf("call %d sees %d, %v", i, n, err)
			}
			return s.Set("n", i)
		})
	}
	ended := token
	call(0, func(s *session.Session) error { return s.Logout(w.ctx) })
	if token != "" {
		w.Error("after Logout there is a token")
	}
	for _, m := range nodes {
		w.eventually("each node refuses the token", func() bool {
			_, err := m.Open(w.ctx, ended)
			return errors.Is(err, session.ErrNotFound)
		})
	}
}

// changesOfAll has both nodes change a user's sessions while the browsers do.
func changesOfAll(w *web) {
	const changes, requests = 10, 20
	nodes := []*node{w.serve(0, session.Options{}), w.serve(1, session.Options{})}
	user := w.unique("user")
	browsers, keys := w.devices(nodes[0], user, "phone", "tablet")
	count := func(s *session.Session, key string) error {
		return session.Update(s, key, func(n int) int { return n + 1 })
	}
	all(4, func(i int) {
		if i >= 2 {
			for j := range requests {
				browsers[i-2].silent(nodes[(i+j)%2], func(v *visit) { v.must("Update", count(v.s, "requests")) })
			}
			return
		}
		for range changes {
			done, err := nodes[i].m.ChangeUser(w.ctx, user, func(s *session.Session) error { return count(s, "changes") })
			if err != nil || len(done.Changed) != len(keys) || len(done.Ended) > 0 {
				w.Errorf("ChangeUser = %+v, %v; want all changed", done, err)
			}
		}
	})
	for i, b := range browsers {
		b.silent(nodes[i], func(v *visit) {
			v.must("Reload", v.s.Reload(v.r.Context()))
			want(v, "requests", requests)
			want(v, "changes", 2*changes)
		})
	}
}

func flashes(w *web) {
	const clients = 8
	s := w.begun()
	nodes := []*node{s.home, s.away}
	var pending []*pending
	for i := range clients {
		pending = append(pending, s.b.begin(nodes[i%2], func(v *visit) {
			v.must("Flash", v.s.Flash(fmt.Sprint("one of ", i)))
			v.must("Flash", v.s.Flash(fmt.Sprint("two of ", i)))
		}, nothing))
	}
	all(clients, func(i int) { pending[i].finish() })
	var got []string
	// One that is added while they are shown is for the next request.
	showing := s.b.begin(s.home, func(v *visit) {
		v.must("Reload", v.s.Reload(v.r.Context()))
		var err error
		got, err = session.Flashes[string](v.s)
		v.must("Flashes", err)
	}, nothing)
	s.b.silent(s.away, func(v *visit) { v.must("Flash", v.s.Flash("late")) })
	showing.finish()
	for i := range clients {
		one, two := slices.Index(got, fmt.Sprint("one of ", i)), slices.Index(got, fmt.Sprint("two of ", i))
		if one < 0 || two < one {
			s.Errorf("the flashes of request %d are at %d and %d of %d", i, one, two, len(got))
		}
	}
	if len(got) != 2*clients {
		s.Errorf("%d flashes; want %d: %q", len(got), 2*clients, got)
	}
	s.b.silent(s.home, func(v *visit) {
		v.must("Reload", v.s.Reload(v.r.Context()))
		left, err := session.Flashes[string](v.s)
		if err != nil || !slices.Equal(left, []string{"late"}) {
			v.Errorf("the flashes left are %q, %v; want the late one", left, err)
		}
	})
}

func clears(w *web) {
	s := w.begun()
	setting := s.b.begin(s.home, func(v *visit) { v.set("set", true) }, nothing)
	s.b.silent(s.away, func(v *visit) { v.must("Clear", v.s.Clear()) })
	setting.finish()
	if left := s.b.look(s.home); left.user != s.user || !slices.Equal(left.keys, []string{"set"}) {
		s.Errorf("after a Set that was saved after Clear: %+v", left)
	}

	clearing := s.b.begin(s.home, func(v *visit) {
		v.must("Clear", v.s.Clear())
		v.set("cleared", true)
	}, nothing)
	s.b.silent(s.away, func(v *visit) {
		v.set("other", true)
		v.must("Flash", v.s.Flash("gone"))
	})
	clearing.finish()
	if left := s.b.look(s.home); left.user != s.user || !slices.Equal(left.keys, []string{"cleared"}) {
		s.Errorf("after a Clear that was saved after Set: %+v", left)
	}
	s.b.silent(s.home, func(v *visit) {
		if left, err := session.Flashes[string](v.s); len(left) > 0 || err != nil {
			v.Errorf("flashes after Clear: %q, %v", left, err)
		}
	})
}

func deletes(w *web) {
	s := w.begun()
	s.b.silent(s.home, func(v *visit) { v.set("doomed", true) })
	deleting := s.b.begin(s.home, func(v *visit) {
		v.must("Delete", v.s.Delete("doomed"))
		if gone, err := session.Pop[bool](v.s, "before"); !gone || err != nil {
			v.Errorf("Pop = %v, %v; want true", gone, err)
		}
	}, nothing)
	s.b.silent(s.away, func(v *visit) { v.set("other", true) })
	deleting.finish()
	if left := s.b.look(s.home); !slices.Equal(left.keys, []string{"other"}) {
		s.Errorf("left are %q; want other", left.keys)
	}
}

func failsOnConflict(w *web) {
	s := w.begun()
	p := s.b.begin(s.home, func(v *visit) {
		v.s.FailOnConflict()
		v.set("stock", "mine")
	}, func(v *visit) {
		v.refused("Save", v.s.Save(v.r.Context()), session.ErrConflict)
		v.refused("the same Save", v.s.Save(v.r.Context()), session.ErrConflict)
		v.must("Reload", v.s.Reload(v.r.Context()))
		want(v, "stock", "theirs")
		v.set("stock", "both")
		v.must("Save after Reload", v.s.Save(v.r.Context()))
		v.say("done")
	})
	s.b.silent(s.away, func(v *visit) { v.set("stock", "theirs") })
	if r := p.finish(); r.status != http.StatusOK || r.body != "done" {
		s.Errorf("the answer is %d %q", r.status, r.body)
	}
	s.b.silent(s.home, func(v *visit) { want(v, "stock", "both") })
}

func conflictAnswer(w *web) {
	s := w.begun()
	p := s.b.begin(s.home, func(v *visit) {
		v.s.FailOnConflict()
		v.set("stock", "mine")
	}, func(v *visit) {
		v.rw.Header().Set("X-Handler", "was here")
		if _, err := v.rw.Write([]byte("bought")); err == nil {
			v.Error("the handler's write succeeded")
		}
	})
	s.b.silent(s.away, func(v *visit) { v.set("stock", "theirs") })
	r := p.finish()
	if r.status != http.StatusConflict || r.body != "Conflict\n" || r.header.Get("X-Handler") != "" || len(r.set()) > 0 {
		s.Errorf("the answer is %d %q with header %v; want 409 and nothing of the handler's", r.status, r.body, r.header)
	}
	s.b.silent(s.home, func(v *visit) {
		v.must("Reload", v.s.Reload(v.r.Context()))
		want(v, "stock", "theirs")
	})
}
