package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"
)

const (
	checkLimit  = 10 * time.Minute
	answerCheck = time.Minute // for one right answer; longer than a lease
)

// check logs in, reads and logs out on several nodes, and says what it saw. It
// stops at the first thing that is wrong.
func check(ctx context.Context, kind string, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, checkLimit, fmt.Errorf("the check took longer than %v", checkLimit))
	defer cancel()
	began := time.Now()
	var log strings.Builder
	said := &output{to: &log}
	f, err := startFleet(ctx, kind, out, func(node, text string) { fmt.Fprintln(said, node, text) })
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "ok   %d nodes, each a process of its own, on %s\n", len(f.nodes), f.db.about)
	if err := errors.Join(story(ctx, f.nodes, out), f.stop(ctx)); err != nil {
		return fmt.Errorf("%w\nThe nodes said:\n%s", err, &log)
	}
	fmt.Fprintf(out, "\nAll is well, and nothing is left (%.1f s).\n", time.Since(began).Seconds())
	return nil
}

// story tries what the nodes do together.
func story(ctx context.Context, nodes []*node, out io.Writer) error {
	first, last := nodes[0], nodes[len(nodes)-1]
	alice := url.Values{"user": {"alice"}}
	laptop, phone := newBrowser(), newBrowser()
	defer laptop.CloseIdleConnections()
	defer phone.CloseIdleConnections()

	if _, err := laptop.send(ctx, first, "/login", alice); err != nil {
		return err
	}
	if err := laptop.await(ctx, nodes, func(v view, err error) bool { return err == nil && v.User == "alice" }); err != nil {
		return err
	}
	fmt.Fprintf(out, "ok   alice logs in on %s, and every node knows her\n", first.conf.Name)

	if _, err := phone.send(ctx, last, "/login", alice); err != nil {
		return err
	}
	stolen := laptop.copyOf(first) // the logout takes the cookie away, but not this copy
	began := time.Now()
	if _, err := laptop.send(ctx, last, "/logout", url.Values{}); err != nil {
		return err
	}
	if err := stolen.await(ctx, nodes, refused); err != nil {
		return err
	}
	took := time.Since(began)
	if _, err := phone.send(ctx, first, "/me", nil); err != nil {
		return err
	}
	fmt.Fprintf(out, "ok   she logs out on %s: all nodes refuse that session after %v, and her phone stays logged in\n",
		last.conf.Name, took.Round(time.Millisecond))

	stolen = phone.copyOf(first)
	if _, err := phone.send(ctx, first, "/logout-all", url.Values{}); err != nil {
		return err
	}
	if err := stolen.await(ctx, nodes, refused); err != nil {
		return err
	}
	fmt.Fprintln(out, "ok   she logs out everywhere, and all nodes refuse her phone, too")
	return nil
}

// browser keeps cookies, for all ports of a host as browsers do.
type browser struct{ http.Client }

func newBrowser() *browser {
	jar, _ := cookiejar.New(nil) // it never fails
	return &browser{http.Client{Jar: jar, Transport: &http.Transport{}}}
}

// copyOf returns a browser that has the cookies of b.
func (b *browser) copyOf(n *node) *browser {
	at := &url.URL{Scheme: "http", Host: n.conf.Addr}
	other := newBrowser()
	other.Transport = b.Transport
	other.Jar.SetCookies(at, b.Jar.Cookies(at))
	return other
}

// send posts a form, or gets if that is nil, and returns the session in the answer.
func (b *browser) send(ctx context.Context, n *node, path string, form url.Values) (v view, err error) {
	method := http.MethodPost
	if form == nil {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, n.url(path), strings.NewReader(form.Encode()))
	if err != nil {
		return v, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := b.Do(req)
	if err != nil {
		return v, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = &refusal{answer.StatusCode, fmt.Sprintf("%s: %s %s: %s, %s", n.conf.Name, method, path, answer.Status, text)}
	}
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	return v, err
}

// await asks each node for the session until the answer is right. A node that has
// not yet heard of a write may answer from its memory, but not for long.
func (b *browser) await(ctx context.Context, nodes []*node, right func(view, error) bool) error {
	for _, n := range nodes {
		ctx, cancel := context.WithTimeout(ctx, answerCheck)
		defer cancel()
		for v, err := b.send(ctx, n, "/me", nil); !right(v, err); v, err = b.send(ctx, n, "/me", nil) {
			if ctx.Err() != nil {
				return fmt.Errorf("%s gave no right answer within %v; the last one: %+v, %w", n.conf.Name, answerCheck, v, err)
			}
		}
	}
	return nil
}

func refused(_ view, err error) bool {
	no, ok := errors.AsType[*refusal](err)
	return ok && no.status == http.StatusUnauthorized
}
