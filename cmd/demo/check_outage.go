package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// killLeader kills the leader's process and waits for another one to lead.
func (c *check) killLeader(ctx context.Context) (string, error) {
	judy, before, err := c.somebodyIn(ctx, c.fleet.nodes[0], "judy")
	if err != nil {
		return "", err
	}
	old, err := c.leader(ctx, c.fleet.nodes)
	if err != nil {
		return "", err
	}
	c.killed = old
	old.process().kill()
	began := time.Now()
	for _, n := range c.others(old) { // nobody needs a leader for that
		if err := sees(ctx, n, judy, before); err != nil {
			return "", fmt.Errorf("without a leader: %w", err)
		}
	}
	next, err := c.leader(ctx, c.others(old))
	if err != nil {
		return "", err
	}
	took := time.Since(began)
	if _, err := judy.post(ctx, next, "/set?key=leader&value=new"); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s killed; %s leads after %v; sessions went on", old.name, next.name, took.Round(10*time.Millisecond)), nil
}

func (c *check) startKilled(ctx context.Context) (string, error) {
	if c.killed == nil {
		return "", errors.New("no node was killed")
	}
	if err := c.killed.start(ctx); err != nil {
		return "", err
	}
	ken, v, err := c.somebodyIn(ctx, c.others(c.killed)[0], "ken")
	if err != nil {
		return "", err
	}
	if err := sees(ctx, c.killed, ken, v); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s serves again, process %d", c.killed.name, c.killed.process().cmd.Process.Pid), nil
}

// ownServer is a database server that we have started.
type ownServer interface {
	Stop() error
	Restart(context.Context) error
}

const notOurs = notTried("the server is not ours to restart")

// restart stops the server, looks at the answers and starts it again.
func (c *check) restart(ctx context.Context, server ownServer) (string, error) {
	laura, before, err := c.somebodyIn(ctx, c.fleet.nodes[0], "laura")
	if err != nil {
		return "", err
	}
	if err := c.warm(ctx, c.fleet.nodes, laura); err != nil {
		return "", err
	}
	stopped := time.Now()
	if err := server.Stop(); err != nil {
		return "", err
	}
	began := time.Now()
	outage := func(ctx context.Context, n *node) error {
		_, err := until(ctx, func() (bool, error) { // a node may answer until it sees that its connection is gone
			_, err := laura.me(ctx, n)
			if r, ok := errors.AsType[*refusal](err); !ok || r.status != http.StatusServiceUnavailable {
				return false, fmt.Errorf("%s without a database: %v", n.name, err)
			}
			return true, nil
		})
		if err != nil {
			return err
		}
		return c.withoutStore(ctx, n, laura)
	}
	patient, cancel := context.WithTimeout(ctx, stepLimit) // which leaves time to start the server
	wrong := on(patient, c.fleet.nodes, outage)
	cancel()
	answered := time.Since(began)
	if err := errors.Join(server.Restart(ctx), wrong); err != nil {
		return "", err
	}
	away := time.Since(stopped)
	began = time.Now()
	err = on(ctx, c.fleet.nodes, func(ctx context.Context, n *node) error {
		_, err := until(ctx, func() (bool, error) {
			err := sees(ctx, n, laura, before)
			return err == nil, err
		})
		return err
	})
	if err != nil {
		return "", err
	}
	back := time.Since(began)
	if _, err := laura.post(ctx, c.fleet.nodes[1], "/set?key=after&value=restart"); err != nil {
		return "", err
	}
	if _, _, err := c.somebodyIn(ctx, c.last(), "laura"); err != nil {
		return "", err
	}
	next, err := c.leader(ctx, c.fleet.nodes)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("away for %v: 503 within %v, nobody lost a cookie, who had none was served; session there after %v; %s leads after %v",
		away.Round(10*time.Millisecond), answered.Round(100*time.Microsecond), back.Round(100*time.Microsecond),
		next.name, time.Since(began).Round(10*time.Millisecond)), nil
}

// withoutStore looks at a node that has no database, and at b's cookie.
func (c *check) withoutStore(ctx context.Context, n *node, b *browser) error {
	unavailable := func(what string, err error) error {
		if r, ok := errors.AsType[*refusal](err); ok && r.status == http.StatusServiceUnavailable && r.text != "" {
			return nil
		}
		return fmt.Errorf("%s, %s without a database: %v", n.name, what, err)
	}
	id := b.id()
	if err := unavailable("save", second(b.post(ctx, n, "/set?key=during&value=outage"))); err != nil {
		return err
	}
	if b.id() != id {
		return fmt.Errorf("%s took the cookie away", n.name)
	}
	stranger, _, err := c.somebodyIn(ctx, n, "laura")
	if err := unavailable("login", err); err != nil {
		return err
	}
	if stranger.id() != "" {
		return fmt.Errorf("%s gave a cookie for no session", n.name)
	}
	if err := refused(second(stranger.me(ctx, n))); err != nil { // it has no cookie: who would have to be asked?
		return fmt.Errorf("%s, without a cookie: %w", n.name, err)
	}
	return nil
}
