package webtest

import (
	"context"
	"net/http"
	"sync"

	"github.com/sojourn-go/sojourn/session"
)

// Of sessions that an application had before.

func oldCases() []webCase {
	return []webCase{
		{name: "of parallel first requests on two nodes one takes a session over", protocols: both, run: takenOver},
	}
}

// oldUsers is an old place where a token is the user, until it has ended.
type oldUsers struct{ ended sync.Map }

func (o *oldUsers) Token(r *http.Request) (token string, genuine bool) {
	return r.Header.Get("Old"), false
}

func (o *oldUsers) Load(_ context.Context, token string) (session.OldSession, error) {
	if _, ended := o.ended.Load(token); ended {
		return session.OldSession{}, session.ErrNotFound
	}
	return session.OldSession{User: token}, nil
}

func (o *oldUsers) End(_ context.Context, token string) error {
	o.ended.Store(token, true)
	return nil
}

func takenOver(w *web) {
	const rounds, clients = 8, 8
	old := &oldUsers{}
	nodes := []*node{w.serve(0, session.Options{Old: old}), w.serve(1, session.Options{Old: old})}
	for range rounds {
		user := w.unique("user")
		visit := func(b *browser, n *node, want string) {
			r := b.request(n.server, n.page(func(v *visit) {
				if got := v.s.User(); got != want {
					v.Errorf("the user is %q; want %q", got, want)
				}
			}), func(r *http.Request) { r.Header.Set("Old", user) })
			if r.status != http.StatusOK {
				b.Errorf("the answer is %d %q; want 200", r.status, r.body)
			}
		}
		browsers := make([]*browser, clients)
		all(clients, func(i int) {
			browsers[i] = w.browser()
			visit(browsers[i], nodes[i%2], user)
		})
		var with []*browser
		for _, b := range browsers {
			if b.cookie(nodes[0]) != "" {
				with = append(with, b)
			}
		}
		if n, err := w.s.(session.UserIndex).CountUser(w.ctx, user); n != 1 || len(with) != 1 || err != nil {
			w.Fatalf("%d sessions, %d cookies, %v; want one", n, len(with), err)
		}
		with[0].visit(nodes[1], logout)
		old.ended.Delete(user) // by a slow request of the old program
		w.eventually("no cache serves the session", func() bool {
			_, err := w.node(0).Get(w.ctx, session.ForeignKey("old:", user))
			return err != nil
		})
		visit(w.browser(), nodes[0], "")
	}
	taken := 0
	for _, n := range nodes {
		taken += len(n.events(session.EventCreated))
	}
	if taken != rounds {
		w.Errorf("%d are told to be taken over; want %d", taken, rounds)
	}
}
