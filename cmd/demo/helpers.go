package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// somebody is a browser without a session.
func (c *check) somebody() *browser { return &browser{http: c.http, seen: c.remember} }

// somebodyIn is a browser of user, logged in on a node.
func (c *check) somebodyIn(ctx context.Context, n *node, user string) (*browser, view, error) {
	b := c.somebody()
	v, err := b.post(ctx, n, "/login?user="+user)
	return b, v, err
}

// others are all nodes but one.
func (c *check) others(but *node) []*node {
	var nodes []*node
	for _, n := range c.fleet.nodes {
		if n != but {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func (c *check) last() *node { return c.fleet.nodes[len(c.fleet.nodes)-1] }

// on does the same on several nodes at once.
func on(ctx context.Context, nodes []*node, do func(context.Context, *node) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		g.Go(func() error { return do(ctx, n) })
	}
	return g.Wait()
}

// sees is nil if a node finds that very session for b.
func sees(ctx context.Context, n *node, b *browser, want view) error {
	got, err := b.me(ctx, n)
	if err == nil && (got.Node != n.name || got.Key != want.Key || got.User != want.User || got.Version != want.Version) {
		err = fmt.Errorf("%s sees session %s of %q, version %d, instead of %s of %q, version %d",
			n.name, got.Key, got.User, got.Version, want.Key, want.User, want.Version)
	}
	return err
}

// refused is nil if err is the answer to somebody who is not logged in.
func refused(err error) error {
	if r, ok := errors.AsType[*refusal](err); ok && r.status == http.StatusUnauthorized {
		return nil
	}
	if err == nil {
		return errors.New("it was not refused")
	}
	return err
}

// stats asks a node about itself.
func (c *check) stats(ctx context.Context, n *node) (st nodeStats, err error) {
	return st, c.somebody().call(ctx, n, http.MethodGet, "/stats", nil, &st)
}

// leader is the node that says it leads.
func (c *check) leader(ctx context.Context, among []*node) (leading *node, err error) {
	_, err = until(ctx, func() (bool, error) {
		for _, n := range among {
			st, err := c.stats(ctx, n)
			if err != nil {
				return false, err
			}
			if st.Stats.Leading && (st.Leader == nil || *st.Leader == n.name) {
				leading = n
				return true, nil
			}
		}
		return false, errors.New("nobody leads")
	})
	return leading, err
}

// sightings say how long after something ended the nodes refused it.
type sightings struct {
	first []time.Duration // by node
	names []string
	late  int64 // answers that came from memory before
}

func (s sightings) String() string {
	var parts []string
	for i, name := range s.names {
		parts = append(parts, fmt.Sprintf("%s after %v", name, s.first[i].Round(100*time.Microsecond)))
	}
	return strings.Join(parts, ", ")
}

// refusedByAll waits until all nodes refuse the sessions of browsers, which
// have just been ended on the node at: that one must do so at once, and so must
// all that have no memory.
func (c *check) refusedByAll(ctx context.Context, at *node, browsers ...*browser) (sightings, error) {
	s := sightings{names: make([]string, len(c.fleet.nodes)), first: make([]time.Duration, len(c.fleet.nodes))}
	began := time.Now()
	var late atomic.Int64
	var all errgroup.Group
	for i, n := range c.fleet.nodes {
		all.Go(func() error {
			err := each(ctx, browsers, func(ctx context.Context, b *browser) error {
				for {
					_, err := b.me(ctx, n)
					switch why := refused(err); {
					case why == nil:
						return nil
					case err != nil || n == at || !c.kind.memory || ctx.Err() != nil:
						return fmt.Errorf("%s: %w", n.name, errors.Join(why, context.Cause(ctx)))
					}
					late.Add(1)
				}
			})
			s.names[i], s.first[i] = n.name, time.Since(began)
			return err
		})
	}
	err := all.Wait()
	s.late = late.Load()
	return s, err
}

// known says, of nodes that have a memory, that sessions were in it.
func (c *check) known() string {
	if c.kind.memory {
		return ", which had them in memory"
	}
	return ""
}
