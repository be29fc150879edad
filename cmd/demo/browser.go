package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// browser is somebody who uses the nodes. It keeps one cookie, whatever the
// port, as browsers do.
type browser struct {
	http *http.Client
	seen func(secret string) // is told each ID

	mu     sync.Mutex
	cookie string
	keeps  time.Duration // when it is closed, by what came with the cookie
}

// refusal is an answer that is not 200.
type refusal struct {
	node   string
	status int
	text   string
}

func (e *refusal) Error() string {
	return fmt.Sprintf("%s answers %d (%s)", e.node, e.status, e.text)
}

func (b *browser) id() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cookie
}

func (b *browser) adopt(c *http.Cookie) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cookie, b.keeps = c.Value, time.Duration(max(c.MaxAge, 0))*time.Second
}

// persistence is for how long the cookie outlives the browser.
func (b *browser) persistence() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keeps
}

// with is another browser that has the cookie id.
func (b *browser) with(id string) *browser { return &browser{http: b.http, seen: b.seen, cookie: id} }

// call sends a request and reads the JSON of the answer into reply, if not nil.
func (b *browser) call(ctx context.Context, n *node, method, path string, body io.Reader, reply any) error {
	req, err := http.NewRequestWithContext(ctx, method, n.url(path), body)
	if err != nil {
		return err
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if id := b.id(); id != "" {
		req.AddCookie(&http.Cookie{Name: cookieName, Value: id})
	}
	answer, err := b.http.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	for _, c := range answer.Cookies() {
		if c.Name == cookieName {
			b.adopt(c)
			b.seen(c.Value)
		}
	}
	if answer.StatusCode != http.StatusOK {
		var e struct{ Error string }
		_ = json.Unmarshal(text, &e) // the status says enough
		return &refusal{n.name, answer.StatusCode, e.Error}
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(text, reply)
}

func (b *browser) me(ctx context.Context, n *node) (v view, err error) {
	return v, b.call(ctx, n, http.MethodGet, "/me", nil, &v)
}

// fresh is me as the database has it.
func (b *browser) fresh(ctx context.Context, n *node) (v view, err error) {
	return v, b.call(ctx, n, http.MethodGet, "/me?fresh=1", nil, &v)
}

// post is for whatever answers with a session.
func (b *browser) post(ctx context.Context, n *node, path string) (v view, err error) {
	return v, b.call(ctx, n, http.MethodPost, path, nil, &v)
}

// end is for whatever answers with how many sessions it ended.
func (b *browser) end(ctx context.Context, n *node, path string) (int64, error) {
	var reply struct{ Ended int64 }
	err := b.call(ctx, n, http.MethodPost, path, nil, &reply)
	return reply.Ended, err
}

// list is the sessions of the user.
func (b *browser) list(ctx context.Context, n *node) (all []session.Info, err error) {
	return all, b.call(ctx, n, http.MethodGet, "/sessions", nil, &all)
}

// revoke ends a session of the user.
func (b *browser) revoke(ctx context.Context, n *node, key string) error {
	return b.call(ctx, n, http.MethodPost, "/revoke", strings.NewReader(url.Values{"key": {key}}.Encode()), nil)
}

// slowly begins a request that has read its session when slowly returns, and
// that saves a value under key once finish is called, which returns its
// outcome.
func (b *browser) slowly(ctx context.Context, n *node, key string) (finish func() (view, error), err error) {
	read := make(chan struct{}, 1)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			read <- struct{}{}
			return nil
		},
	})
	body, rest := io.Pipe()
	var v view
	done := make(chan error, 1)
	go func() { done <- b.call(ctx, n, http.MethodPost, "/slow?key="+key, body, &v) }()
	select {
	case <-read:
		return func() (view, error) {
			_ = rest.Close()
			err := <-done
			return v, err
		}, nil
	case err := <-done:
		return nil, fmt.Errorf("the slow request ended before its time: %w", err)
	}
}

// until asks again and again until cond holds, and returns how long that took.
// When ctx ends, its error tells what cond last complained of.
func until(ctx context.Context, cond func() (bool, error)) (time.Duration, error) {
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		ok, err := cond()
		if ok && err == nil {
			return time.Since(began), nil
		}
		if ctx.Err() == nil || last == nil { // a request that ctx has ended tells nothing
			last = err
		}
		select {
		case <-ctx.Done():
			return 0, errors.Join(context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// forged returns texts that are no session's ID, each wrong in its own way.
func forged(n int) []string {
	texts := make([]string, 0, n)
	for i := range n {
		id := session.NewID(time.Now().Add(lifetime)).Secret()
		switch i % 3 {
		case 0:
			id = id[1:]
		case 1:
			id = "." + id[1:]
		case 2:
			id = "x"
		}
		texts = append(texts, id)
	}
	return texts
}
