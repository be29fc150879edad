package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sojourn-go/sojourn/session"
)

func (c *check) logIn(ctx context.Context) (string, error) {
	first := c.fleet.nodes[0]
	alice, v, err := c.somebodyIn(ctx, first, "alice")
	if err != nil {
		return "", err
	}
	if v.User != "alice" || v.Version != 1 {
		return "", fmt.Errorf("logged in as %q, version %d", v.User, v.Version)
	}
	for _, n := range c.others(first) {
		if err := sees(ctx, n, alice, v); err != nil {
			return "", err
		}
	}
	if err := refused(second(c.somebody().me(ctx, first))); err != nil {
		return "", fmt.Errorf("without a cookie: %w", err)
	}
	return fmt.Sprintf("%s, version %d, on all %d nodes", v.User, v.Version, len(c.fleet.nodes)), nil
}

func second[T any](_ T, err error) error { return err }

// saveAtOnce changes different values of one session through two nodes.
func (c *check) saveAtOnce(ctx context.Context) (string, error) {
	const each, atOnce = 50, 5
	bob, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], "bob")
	if err != nil {
		return "", err
	}
	var conflicts atomic.Int64
	var all errgroup.Group
	for i, n := range c.fleet.nodes[:2] {
		all.Go(func() error {
			g, ctx := errgroup.WithContext(ctx)
			g.SetLimit(atOnce)
			for k := range each {
				g.Go(func() error {
					v, err := bob.post(ctx, n, fmt.Sprintf("/set?key=n%d-%d&value=%d", i, k, k))
					conflicts.Add(int64(v.Conflicts))
					return err
				})
			}
			return g.Wait()
		})
	}
	if err := all.Wait(); err != nil {
		return "", err
	}
	v, err := bob.me(ctx, c.last())
	if err != nil {
		return "", err
	}
	for i := range 2 {
		for k := range each {
			if v.Values[fmt.Sprintf("n%d-%d", i, k)] != fmt.Sprint(k) {
				return "", fmt.Errorf("a change is lost: %d values of %d are there", len(v.Values), 2*each)
			}
		}
	}
	if v.Version != 1+2*each {
		return "", fmt.Errorf("version %d after %d saves", v.Version, 2*each)
	}
	if conflicts.Load() == 0 {
		return "", errors.New("no save met another: this proves nothing")
	}
	return fmt.Sprintf("%d changes, all there; %d conflicts, each solved by repeating the change", 2*each, conflicts.Load()), nil
}

func (c *check) touch(ctx context.Context) (string, error) {
	carol, before, err := c.somebodyIn(ctx, c.fleet.nodes[0], "carol")
	if err != nil {
		return "", err
	}
	// The nodes' ideas of the time differ a little, and a touch by one that is
	// behind moves nothing.
	var touched view
	if _, err := until(ctx, func() (bool, error) {
		if touched, err = carol.post(ctx, c.fleet.nodes[1], "/touch"); err != nil {
			return false, err
		}
		return !touched.Expires.Equal(before.Expires), nil
	}); err != nil {
		return "", err
	}
	after, err := carol.me(ctx, c.last())
	if err != nil {
		return "", err
	}
	switch {
	case !after.Expires.After(before.Expires):
		return "", fmt.Errorf("the idle timeout was %v and is %v", before.Expires, after.Expires)
	case !after.Expires.Equal(touched.Expires):
		return "", fmt.Errorf("the touch said %v, but it is %v", touched.Expires, after.Expires)
	case after.Version != before.Version:
		return "", fmt.Errorf("the version was %d and is %d", before.Version, after.Version)
	}
	return fmt.Sprintf("idle timeout %v later, still version %d", after.Expires.Sub(before.Expires).Round(time.Microsecond), after.Version), nil
}

// renew gives a session a new ID on one node and uses the old one on others.
func (c *check) renew(ctx context.Context) (string, error) {
	const grace = time.Second
	dave, before, err := c.somebodyIn(ctx, c.fleet.nodes[0], "dave")
	if err != nil {
		return "", err
	}
	old := dave.with(dave.id())
	after, err := dave.post(ctx, c.fleet.nodes[0], "/renew?grace="+grace.String())
	if err != nil {
		return "", err
	}
	renewed := time.Now()
	if dave.id() == old.id() || after.Key == before.Key || after.User != "dave" {
		return "", errors.New("the session has its old ID")
	}
	if err := sees(ctx, c.fleet.nodes[1], old, after); err != nil {
		return "", fmt.Errorf("the old ID during grace: %w", err)
	}
	if _, err := until(ctx, func() (bool, error) {
		err := refused(second(old.me(ctx, c.last())))
		return err == nil, err
	}); err != nil {
		return "", fmt.Errorf("the old ID after grace: %w", err)
	}
	lasted := time.Since(renewed)

	// Without grace the old ID is dead at once.
	old = dave.with(dave.id())
	if _, err := dave.post(ctx, c.fleet.nodes[1], "/renew"); err != nil {
		return "", err
	}
	if err := on(ctx, c.fleet.nodes, func(ctx context.Context, n *node) error {
		return refused(second(old.me(ctx, n)))
	}); err != nil {
		return "", fmt.Errorf("the old ID without grace: %w", err)
	}
	if _, err := dave.me(ctx, c.last()); err != nil {
		return "", fmt.Errorf("the new ID: %w", err)
	}
	return fmt.Sprintf("old ID led to the new one for %v of %v grace, then refused; without grace at once", lasted.Round(10*time.Millisecond), grace), nil
}

// logoutBound is the lease: after it no node may serve a session that has ended.
const logoutBound = 2 * time.Second

func (c *check) logOut(ctx context.Context) (string, error) {
	erin, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], "erin")
	if err != nil {
		return "", err
	}
	thief := erin.with(erin.id()) // the cookie is cleared, a copy of it is not
	began := time.Now()
	if _, err := erin.end(ctx, c.last(), "/logout"); err != nil {
		return "", err
	}
	took := time.Since(began)
	if erin.id() != "" {
		return "", errors.New("the cookie was not cleared")
	}
	ended := time.Now()
	var mu sync.Mutex
	var seen []string
	err = on(ctx, c.fleet.nodes, func(ctx context.Context, n *node) error {
		ctx, cancel := context.WithTimeoutCause(ctx, logoutBound, fmt.Errorf("%s still serves the session after %v", n.name, logoutBound))
		defer cancel()
		_, err := until(ctx, func() (bool, error) {
			err := refused(second(thief.me(ctx, n)))
			return err == nil, err
		})
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf("%s after %v", n.name, time.Since(ended).Round(100*time.Microsecond)))
		return err
	})
	if err != nil {
		return "", err
	}
	if err := refused(second(thief.post(ctx, c.fleet.nodes[0], "/set?key=a&value=b"))); err != nil {
		return "", fmt.Errorf("a save after the logout: %w", err)
	}
	return fmt.Sprintf("logged out in %v; refused by %s", took.Round(100*time.Microsecond), strings.Join(seen, ", ")), nil
}

// lateSave logs out while a request has read the session and not yet saved it.
func (c *check) lateSave(ctx context.Context) (string, error) {
	frank, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], "frank")
	if err != nil {
		return "", err
	}
	slow := frank.with(frank.id())
	finish, err := slow.slowly(ctx, c.fleet.nodes[0])
	if err != nil {
		return "", err
	}
	_, logoutErr := frank.end(ctx, c.last(), "/logout")
	if err := errors.Join(logoutErr, refused(finish())); err != nil {
		return "", err
	}
	if slow.id() == "" {
		return "", errors.New("the late answer cleared the cookie, which may be another's by now")
	}
	if err := on(ctx, c.fleet.nodes, func(ctx context.Context, n *node) error {
		return refused(second(slow.me(ctx, n)))
	}); err != nil {
		return "", fmt.Errorf("after the late save: %w", err)
	}

	// The same request is fine where nobody logs out.
	grace, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], "grace")
	if err != nil {
		return "", err
	}
	if finish, err = grace.slowly(ctx, c.fleet.nodes[0]); err == nil {
		err = finish()
	}
	if err != nil {
		return "", fmt.Errorf("without a logout: %w", err)
	}
	return fmt.Sprintf("read before the logout, saved after it: %d, and the session stays dead", http.StatusUnauthorized), nil
}

// logOutEverywhere does so while the user logs in on all nodes.
func (c *check) logOutEverywhere(ctx context.Context) (string, error) {
	const before, meanwhile = 3, 10
	var mu sync.Mutex
	var known, late []*browser
	logIn := func(times int, to *[]*browser) error {
		return on(ctx, c.fleet.nodes, func(ctx context.Context, n *node) error {
			for range times {
				b, _, err := c.somebodyIn(ctx, n, "heidi")
				if err != nil {
					return err
				}
				mu.Lock()
				*to = append(*to, b)
				mu.Unlock()
			}
			return nil
		})
	}
	if err := logIn(before, &known); err != nil {
		return "", err
	}
	logins := make(chan error, 1)
	go func() { logins <- logIn(meanwhile, &late) }()
	began := time.Now()
	ended, err := known[0].with(known[0].id()).end(ctx, c.fleet.nodes[1], "/logout-all")
	took := time.Since(began)
	allRefused := func(browsers []*browser) error {
		return on(ctx, c.fleet.nodes, func(ctx context.Context, n *node) error {
			for _, b := range browsers {
				if err := refused(second(b.me(ctx, n))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		err = allRefused(known)
	}
	if err = errors.Join(err, <-logins); err != nil {
		return "", err
	}

	// Who logged in after the logout had begun may be in, until the next one.
	var alive int64
	for _, b := range late {
		_, err := b.me(ctx, c.fleet.nodes[0])
		if err == nil {
			alive++
		} else if err := refused(err); err != nil {
			return "", err
		}
	}
	if got := int64(len(known)+len(late)) - alive; got != ended {
		return "", fmt.Errorf("%d ended, but %d are refused", ended, got)
	}
	again, _, err := c.somebodyIn(ctx, c.last(), "heidi")
	if err != nil {
		return "", err
	}
	rest, err := again.end(ctx, c.fleet.nodes[1], "/logout-all")
	if err != nil {
		return "", err
	}
	if rest != alive+1 {
		return "", fmt.Errorf("%d were left, but %d ended", alive+1, rest)
	}
	if err := allRefused(late); err != nil {
		return "", err
	}
	return fmt.Sprintf("all %d sessions refused, in %v; of %d logins meanwhile %d were later than it", len(known), took.Round(100*time.Microsecond), len(late), alive), nil
}

// forgedIDs tries IDs that cannot be right, which costs the database nothing,
// and a few that could be.
func (c *check) forgedIDs(ctx context.Context) (string, error) {
	const impossible, plausible = 500, 20
	n := c.fleet.nodes[0]
	try := func(ids []string) (queries uint64, err error) {
		before, err := c.stats(ctx, n)
		if err != nil {
			return 0, err
		}
		for _, id := range ids {
			if err := refused(second(c.somebody().with(id).me(ctx, n))); err != nil {
				return 0, err
			}
		}
		after, err := c.stats(ctx, n)
		return after.Stats.Gets - before.Stats.Gets, err
	}
	began := time.Now()
	queries, err := try(forged(impossible))
	if err != nil {
		return "", err
	}
	if queries != 0 {
		return "", fmt.Errorf("%d reads for %d IDs that no session can have", queries, impossible)
	}
	each := time.Since(began) / impossible
	var ids []string
	for range plausible {
		ids = append(ids, session.NewID(time.Now().Add(lifetime)).Secret())
	}
	if queries, err = try(ids); err != nil {
		return "", err
	}
	if queries != plausible {
		return "", fmt.Errorf("%d reads for %d IDs of the right shape", queries, plausible)
	}
	return fmt.Sprintf("%d impossible IDs: no read, %v each; %d of the right shape: a read each", impossible, each.Round(10*time.Microsecond), plausible), nil
}
