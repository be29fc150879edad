package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// merge has two requests on two nodes read the same version of a session and
// then save different values, and many add to one number. None of their
// handlers tries again.
func (c *check) merge(ctx context.Context) (string, error) {
	const each = 25
	first, other := c.fleet.nodes[0], c.fleet.nodes[1]
	ursula, before, err := c.somebodyIn(ctx, first, "ursula")
	if err != nil {
		return "", err
	}
	here, err := ursula.slowly(ctx, first, "here")
	if err != nil {
		return "", err
	}
	there, err := ursula.slowly(ctx, other, "there")
	if err != nil {
		return "", errors.Join(err, second(here()))
	}
	_, hereErr := here()
	after, thereErr := there()
	if err := errors.Join(hereErr, thereErr); err != nil {
		return "", err
	}
	_, hasHere := after.Values["here"]
	_, hasThere := after.Values["there"]
	if !hasHere || !hasThere || after.Version <= before.Version || after.Conflicts != 1 {
		return "", fmt.Errorf("of two changes the second left %v, version %d, after %d conflicts", after.Values, after.Version, after.Conflicts)
	}

	var conflicts atomic.Int64
	if err := on(ctx, []*node{first, other}, func(ctx context.Context, n *node) error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(5)
		for range each {
			g.Go(func() error {
				v, err := ursula.post(ctx, n, "/count?key=clicks")
				conflicts.Add(int64(v.Conflicts))
				return err
			})
		}
		return g.Wait()
	}); err != nil {
		return "", err
	}
	counted, err := ursula.fresh(ctx, c.last())
	if err != nil {
		return "", err
	}
	if counted.Values["clicks"] != any(float64(2*each)) {
		return "", fmt.Errorf("%d clicks were counted as %v", 2*each, counted.Values["clicks"])
	}
	return fmt.Sprintf("two values from one version, both there after %d conflict; %d clicks counted, %d conflicts", after.Conflicts, 2*each, conflicts.Load()), nil
}

// stayLoggedIn logs in with and without remember-me.
func (c *check) stayLoggedIn(ctx context.Context) (string, error) {
	const day = 24 * time.Hour
	first := c.fleet.nodes[0]
	xavier := c.somebody()
	v, err := xavier.post(ctx, first, "/login?user=xavier&keep=1")
	if err != nil {
		return "", err
	}
	if err := sees(ctx, c.last(), xavier, v); err != nil {
		return "", err
	}
	brief, short, err := c.somebodyIn(ctx, first, "xavier")
	if err != nil {
		return "", err
	}
	long, persistence := v.Deadline.Sub(v.Created), xavier.persistence()
	if _, err := xavier.end(ctx, c.last(), "/logout"); err != nil {
		return "", err
	}
	switch {
	case xavier.id() != "":
		return "", errors.New("the cookie outlives the logout")
	case persistence < kept-day || persistence > kept:
		return "", fmt.Errorf("the cookie outlives the browser for %v", persistence)
	case long < kept-day || long > kept+day:
		return "", fmt.Errorf("the session lasts for %v", long)
	case brief.persistence() != 0:
		return "", errors.New("a cookie outlives its browser that nobody wanted to")
	case short.Deadline.Sub(short.Created) > lifetime+time.Hour:
		return "", fmt.Errorf("a session lasts until %v that nobody wanted to", short.Deadline)
	}
	return fmt.Sprintf("the cookie is kept for %v, the session until %s; without: no longer than the browser, and until %s",
		persistence, v.Deadline.Format("2 Jan 15:04"), short.Deadline.Format("2 Jan 15:04")), nil
}

// visitor is a browser without scripts, with a jar that others have made.
type visitor struct{ http *http.Client }

func (v visitor) page(ctx context.Context, method, url string, form url.Values) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := v.http.Do(req)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || answer.Request.URL.Path != devicesPath) {
		err = fmt.Errorf("%s %s leads to %s: %s", method, url, answer.Request.URL.Path, answer.Status)
	}
	return string(text), err
}

// forms logs in and out as one does whose browser runs no scripts.
func (c *check) forms(ctx context.Context) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	yvonne := visitor{&http.Client{Transport: c.http.Transport, Jar: jar}}
	first, last := c.fleet.nodes[0], c.last()
	const greeting, nobody = "You are logged in as yvonne.", "Nobody is logged in"
	for _, step := range []struct {
		n            *node
		method, path string
		form         url.Values
		says, not    string
	}{
		{first, http.MethodGet, devicesPath, nil, nobody, "yvonne"},
		{first, http.MethodPost, "/login", url.Values{"user": {"yvonne"}}, greeting, nobody},
		{first, http.MethodGet, devicesPath, nil, "Firefox on Linux", greeting}, // it is told once
		{last, http.MethodGet, devicesPath, nil, "Firefox on Linux", greeting},
		{last, http.MethodPost, "/logout-all", nil, nobody, "yvonne"},
		{last, http.MethodGet, devicesPath, nil, nobody, "yvonne"},
	} {
		text, err := yvonne.page(ctx, step.method, step.n.url(step.path), step.form)
		if err != nil {
			return "", err
		}
		at, err := url.Parse(step.n.url("/"))
		if err != nil {
			return "", err
		}
		for _, cookie := range jar.Cookies(at) {
			c.remember(cookie.Value)
		}
		if !strings.Contains(text, step.says) || strings.Contains(text, step.not) {
			return "", fmt.Errorf("%s: %s %s: it should say %q and not %q", step.n.name, step.method, step.path, step.says, step.not)
		}
		if in := len(jar.Cookies(at)) > 0; in != (step.not != "yvonne") {
			return "", fmt.Errorf("%s: %s %s: is there a cookie? %t", step.n.name, step.method, step.path, in)
		}
	}
	return "a cookie, 303 to the list of devices, and a greeting that is shown once", nil
}

// devices ends sessions as users do, by a list of them.
func (c *check) devices(ctx context.Context) (string, error) {
	nodes := []*node{c.fleet.nodes[0], c.fleet.nodes[1], c.last()}
	labels := []string{"laptop", "phone", "tablet"}
	var own []*browser
	for i, label := range labels {
		b := c.somebody()
		if _, err := b.post(ctx, nodes[i], "/login?user=victor&label="+label); err != nil {
			return "", err
		}
		own = append(own, b)
	}
	foreign, wendy, err := c.somebodyIn(ctx, nodes[0], "wendy")
	if err != nil {
		return "", err
	}
	laptop, phone, tablet := own[0], own[1], own[2]
	if err := c.warm(ctx, c.fleet.nodes, own...); err != nil {
		return "", err
	}
	list, err := laptop.list(ctx, c.last())
	if err != nil {
		return "", err
	}
	if len(list) != len(labels) {
		return "", fmt.Errorf("%d devices instead of %d", len(list), len(labels))
	}
	for i, one := range list {
		if one.Label != labels[i] || one.Current != (i == 0) || one.User != "victor" || one.LastSeen.Before(one.Created.Add(-time.Minute)) {
			return "", fmt.Errorf("the device %s is listed as %+v", labels[i], one)
		}
	}

	err = laptop.revoke(ctx, nodes[0], wendy.Key)
	if r, ok := errors.AsType[*refusal](err); !ok || r.status != http.StatusNotFound {
		return "", fmt.Errorf("another user's session was not refused: %v", err)
	}
	if err := laptop.revoke(ctx, nodes[0], list[1].Key); err != nil {
		return "", err
	}
	seen, err := c.refusedByAll(ctx, nodes[0], phone)
	if err != nil {
		return "", err
	}
	for _, b := range []*browser{laptop, tablet} {
		if _, err := b.me(ctx, c.last()); err != nil {
			return "", fmt.Errorf("another device: %w", err)
		}
	}
	others, err := laptop.end(ctx, c.last(), "/revoke-others")
	if err != nil {
		return "", err
	}
	if _, err := c.refusedByAll(ctx, c.last(), tablet); err != nil {
		return "", err
	}
	list, err = laptop.list(ctx, nodes[1])
	if err != nil {
		return "", err
	}
	if others != 1 || len(list) != 1 || list[0].Label != labels[0] || !list[0].Current {
		return "", fmt.Errorf("%d others ended, and there are still: %+v", others, list)
	}
	if _, err := foreign.me(ctx, c.last()); err != nil {
		return "", fmt.Errorf("another user: %w", err)
	}
	return fmt.Sprintf("%s; phone refused by %s; then the others; another user's key: %d",
		strings.Join(labels, ", "), seen, http.StatusNotFound), nil
}
