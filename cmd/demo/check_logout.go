package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

func (c *check) logOut(ctx context.Context) (string, error) {
	erin, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], "erin")
	if err != nil {
		return "", err
	}
	thief := erin.with(erin.id()) // the cookie is cleared, a copy of it is not
	if err := c.warm(ctx, c.fleet.nodes, thief); err != nil {
		return "", err
	}
	began := time.Now()
	if _, err := erin.end(ctx, c.last(), "/logout"); err != nil {
		return "", err
	}
	took := time.Since(began)
	if erin.id() != "" {
		return "", errors.New("the cookie was not cleared")
	}
	seen, err := c.refusedByAll(ctx, c.last(), thief)
	if err != nil {
		return "", err
	}
	if err := refused(second(thief.post(ctx, c.fleet.nodes[0], "/set?key=a&value=b"))); err != nil {
		return "", fmt.Errorf("a save after the logout: %w", err)
	}
	return fmt.Sprintf("logged out in %v; refused by %s", took.Round(100*time.Microsecond), seen), nil
}

// lateSave logs out, and in again, while a request of the same browser has read
// the session and not yet saved it.
func (c *check) lateSave(ctx context.Context) (string, error) {
	frank, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], "frank")
	if err != nil {
		return "", err
	}
	thief := frank.with(frank.id())
	finish, err := frank.slowly(ctx, c.fleet.nodes[0], "late")
	if err != nil {
		return "", err
	}
	_, logoutErr := frank.end(ctx, c.last(), "/logout")
	again, loginErr := frank.post(ctx, c.fleet.nodes[1], "/login?user=frank")
	now := frank.id()
	if err := errors.Join(logoutErr, loginErr, refused(second(finish()))); err != nil {
		return "", err
	}
	if now == "" || frank.id() != now {
		return "", errors.New("the late answer changed the cookie, which was another session's by then")
	}
	for _, n := range c.fleet.nodes {
		if err := sees(ctx, n, frank, again); err != nil {
			return "", fmt.Errorf("the new login after the late save: %w", err)
		}
	}
	// The node that was told so by the database knows it, too.
	if err := refused(second(thief.me(ctx, c.fleet.nodes[0]))); err != nil {
		return "", fmt.Errorf("after the late save: %w", err)
	}
	if _, err := c.refusedByAll(ctx, c.last(), thief); err != nil {
		return "", fmt.Errorf("after the late save: %w", err)
	}

	// The same request is fine where nobody logs out.
	grace, _, err := c.somebodyIn(ctx, c.fleet.nodes[0], "grace")
	if err != nil {
		return "", err
	}
	if finish, err = grace.slowly(ctx, c.fleet.nodes[0], "late"); err == nil {
		_, err = finish()
	}
	if err != nil {
		return "", fmt.Errorf("without a logout: %w", err)
	}
	return fmt.Sprintf("read before the logout, saved after it: %d, and the session stays dead; the cookie of the login meanwhile is left alone", http.StatusUnauthorized), nil
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
	if err := c.warm(ctx, c.fleet.nodes, known...); err != nil {
		return "", err
	}
	logins := make(chan error, 1)
	go func() { logins <- logIn(meanwhile, &late) }()
	began := time.Now()
	at := c.fleet.nodes[1]
	ended, err := known[0].with(known[0].id()).end(ctx, at, "/logout-all")
	took := time.Since(began)
	var seen sightings
	if err == nil {
		seen, err = c.refusedByAll(ctx, at, known...)
	}
	if err = errors.Join(err, <-logins); err != nil {
		return "", err
	}

	// Who logged in after the logout had begun may be in, until the next one.
	var alive int64
	for _, b := range late {
		_, err := b.me(ctx, at)
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
	rest, err := again.end(ctx, at, "/logout-all")
	if err != nil {
		return "", err
	}
	if rest != alive+1 {
		return "", fmt.Errorf("%d were left, but %d ended", alive+1, rest)
	}
	if _, err := c.refusedByAll(ctx, at, late...); err != nil {
		return "", err
	}
	return fmt.Sprintf("all %d sessions ended in %v, refused by %s; of %d logins meanwhile %d were later than it",
		len(known), took.Round(100*time.Microsecond), seen, len(late), alive), nil
}
