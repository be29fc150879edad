package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// No more than a tenth of them is needed, unless something is wrong.
const (
	checkLimit = 30 * time.Minute
	stepLimit  = 5 * time.Minute
	longLimit  = 8 * time.Minute
)

// check plays the demo's story. Each step has users of its own, so that one
// that fails does not spoil the others.
type check struct {
	report *report
	kind   choice
	db     database
	fleet  *fleet
	http   *http.Client

	mu      sync.Mutex
	secrets []string // the IDs that browsers were given
	log     []string // what the nodes said

	killed *node // by the step that kills the leader
}

// step is a part of the story. It returns what was seen.
type step struct {
	name  string
	limit time.Duration
	do    func(context.Context) (string, error)
}

// runCheck reports whether all steps went well.
func runCheck(ctx context.Context, kind choice, nodes int, r *report, stderr io.Writer) bool {
	ctx, cancel := context.WithTimeoutCause(ctx, checkLimit, fmt.Errorf("the check took longer than %v", checkLimit))
	defer cancel()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	c := &check{report: r, kind: kind, http: &http.Client{Transport: transport}}
	if c.setUp(ctx, nodes, stderr) {
		c.play(ctx)
	}
	c.tearDown(ctx)
	if r.failed > 0 {
		c.sayWhy(stderr)
	}
	return r.end()
}

func (c *check) setUp(ctx context.Context, nodes int, stderr io.Writer) bool {
	return c.find(ctx, stderr) && c.report.step(ctx, "make the tables", longLimit, func(ctx context.Context) (string, error) {
		return c.db.migrate(ctx)
	}) && c.report.step(ctx, fmt.Sprintf("start %d nodes", nodes), startLimit, func(ctx context.Context) (string, error) {
		c.fleet = newFleet(c.kind.backend, c.db, nodes, c.hear)
		if db, ok := c.db.(interface{ reroute(*fleet) error }); ok {
			if err := db.reroute(c.fleet); err != nil {
				return "", err
			}
		}
		if err := c.fleet.start(ctx); err != nil {
			return "", err
		}
		var where []string
		for _, n := range c.fleet.nodes {
			where = append(where, n.address())
		}
		return strings.Join(where, ", "), nil
	})
}

// find opens a database of the kind that was chosen, or of the other one.
func (c *check) find(ctx context.Context, stderr io.Writer) bool {
	wanted := c.kind
	return c.report.step(ctx, wanted.find, checkLimit, func(ctx context.Context) (string, error) {
		db, err := wanted.open(ctx, stderr)
		if err == nil {
			c.db = db
			return db.about(), nil
		}
		if instead, why, ok := wanted.other(err); ok {
			c.kind = instead
			return "", notTried(why)
		}
		return "", err
	}) && (c.db != nil || c.find(ctx, stderr))
}

func (c *check) play(ctx context.Context) {
	for _, s := range append(c.common(), c.db.steps(c)...) {
		if !c.report.step(ctx, s.name, s.limit, s.do) && ctx.Err() != nil {
			return // there is no time for the others
		}
	}
}

// common are the steps that every kind of database has.
func (c *check) common() []step {
	return []step{
		{"log in on node 1, read on the others", stepLimit, c.logIn},
		{"save on two nodes at once, lose nothing", longLimit, c.saveAtOnce},
		{"merge what two nodes change", stepLimit, c.merge},
		{"touch", stepLimit, c.touch},
		{"touch by use, now and then", stepLimit, c.touchByUse},
		{"renew", stepLimit, c.renew},
		{fmt.Sprintf("log out on node %d, refused everywhere", len(c.fleet.nodes)), stepLimit, c.logOut},
		{"refuse a late save", stepLimit, c.lateSave},
		{"log out everywhere from node 2", stepLimit, c.logOutEverywhere},
		{"stay logged in for 30 days", stepLimit, c.stayLoggedIn},
		{"log in by a form, without scripts", stepLimit, c.forms},
		{"list devices, log out one, then the others", stepLimit, c.devices},
		{"log out on node 1, how soon others refuse", longLimit, c.logOutDelays},
		{"log out 1,000 sessions in one call", stepLimit, c.thousandLogOuts},
		{"log out a user with 10,000 sessions", longLimit, c.userWide},
		{"refuse forged IDs without a query", stepLimit, c.forgedIDs},
	}
}

// tearDown does its work even if ctx has ended: nothing may be left.
func (c *check) tearDown(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	if c.fleet != nil {
		c.report.step(ctx, "stop all nodes", 2*stopLimit, c.stop)
		c.fleet.unroute()
		c.report.step(ctx, "find no session ID in any log", stepLimit, c.findSecrets)
	}
	if c.db != nil {
		c.report.step(ctx, "clear up", longLimit, c.db.close)
	}
}

func (c *check) stop(ctx context.Context) (string, error) {
	err := c.fleet.stop(ctx)
	var left []string
	_, waitErr := until(ctx, func() (ok bool, err error) {
		if left, err = c.db.left(ctx); errors.Is(err, errors.ErrUnsupported) {
			return true, nil
		}
		return len(left) == 0, err
	})
	if len(left) > 0 {
		waitErr = fmt.Errorf("connections are left: %s", strings.Join(left, ", "))
	}
	remark := "; no connection left"
	if errors.Is(waitErr, errors.ErrUnsupported) {
		remark, waitErr = "", nil
	}
	return fmt.Sprintf("%d processes, exit code 0 each%s", len(c.fleet.nodes), remark), errors.Join(err, waitErr)
}

func (c *check) findSecrets(context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	logs := strings.Join(c.log, "\n")
	where := "the nodes'"
	if log := c.db.log(); log != "" {
		logs += log
		where = "the nodes' and the server's"
	}
	if len(c.secrets) == 0 || len(c.log) == 0 {
		return "", errors.New("there is nothing to look for")
	}
	for _, id := range c.secrets {
		if strings.Contains(logs, id) {
			return "", fmt.Errorf("an ID is in %s log", where)
		}
	}
	return fmt.Sprintf("%d IDs, %d bytes of %s logs", len(c.secrets), len(logs), where), nil
}

// sayWhy shows the last that the nodes said.
func (c *check) sayWhy(stderr io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.log) > 0 {
		fmt.Fprintf(stderr, "The last words of the nodes:\n%s\n", strings.Join(c.log[max(0, len(c.log)-40):], "\n"))
	}
}

func (c *check) hear(node string, e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, time.Now().Format("15:04:05.000 ")+node+" "+e.raw)
}

func (c *check) remember(secret string) {
	if secret == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets = append(c.secrets, secret)
}
