package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/internal/faultproxy"
)

const noWire = notTried("the database is not reached by TCP, or the certificate is for its name only")

// apart picks a node to be cut off, which does not lead, and another one.
func (c *postgresCheck) apart(ctx context.Context) (deaf, other *node, err error) {
	leading, err := c.leader(ctx, c.fleet.nodes)
	if err != nil {
		return nil, nil, err
	}
	deaf = c.others(leading)[0]
	if deaf.link == nil {
		return nil, nil, noWire
	}
	return deaf, leading, nil
}

// cut breaks the connection through which a node listens, and refuses new ones.
func (c *postgresCheck) cut(ctx context.Context) (string, error) {
	return c.gap(ctx, func(link *faultproxy.Proxy) {
		link.Refuse()
		link.CutAll()
	})
}

// stall is a network through which nothing comes any more.
func (c *postgresCheck) stall(ctx context.Context) (string, error) { return c.gap(ctx, interrupt) }

func interrupt(link *faultproxy.Proxy) {
	link.SetMode(faultproxy.ToClient, faultproxy.Stall())
	link.SetMode(faultproxy.ToServer, faultproxy.Stall())
}

// gap logs out on one node while another one hears nothing.
func (c *postgresCheck) gap(ctx context.Context, harm func(*faultproxy.Proxy)) (string, error) {
	const reads = 200
	deaf, other, err := c.apart(ctx)
	if err != nil {
		return "", err
	}
	rosa, _, err := c.somebodyIn(ctx, other, "rosa")
	if err != nil {
		return "", err
	}
	sybil, _, err := c.somebodyIn(ctx, other, "sybil")
	if err != nil {
		return "", err
	}
	if err := c.warm(ctx, []*node{deaf}, rosa, sybil); err != nil {
		return "", err
	}
	before, err := c.leased(ctx, deaf, true)
	if err != nil {
		return "", err
	}
	thief := rosa.with(rosa.id())

	broken := time.Now()
	harm(deaf.link)
	defer func() { _ = deaf.link.Heal() }() // if the step fails
	if _, err := rosa.end(ctx, other, "/logout"); err != nil {
		return "", err
	}
	served := 0
	late, err := until(ctx, func() (bool, error) {
		_, err := thief.me(ctx, deaf)
		if err == nil {
			served++
		}
		err = refused(err)
		return err == nil, err
	})
	if err != nil {
		return "", fmt.Errorf("%s, which hears nothing: %w", deaf.name, err)
	}
	watch := c.watch(ctx, deaf, thief) // from now on for good
	defer watch.stop()

	if _, err := c.leased(ctx, deaf, false); err != nil {
		return "", err
	}
	lost := time.Since(broken)
	var cause string
	if _, err := until(ctx, func() (bool, error) {
		now, err := c.stats(ctx, deaf)
		if cause = gapsSince(before, now); err == nil && cause == "" {
			err = errors.New(deaf.name + " counts no gap")
		}
		return err == nil, err
	}); err != nil {
		return "", err
	}
	alone, err := c.measure(ctx, deaf, reads, sybil.me)
	if err != nil {
		return "", fmt.Errorf("from the database: %w", err)
	}
	if alone.hits > 0 || alone.queries < reads {
		return "", fmt.Errorf("%s hears nothing: %v", deaf.name, alone)
	}

	healed := time.Now()
	if err := deaf.link.Heal(); err != nil {
		return "", err
	}
	if _, err := c.leased(ctx, deaf, true); err != nil {
		return "", err
	}
	back := time.Since(healed)
	watch.stop() // what is refused takes queries
	free, _, err := c.readFree(ctx, deaf, sybil, reads)
	if err != nil {
		return "", err
	}
	if err := refused(second(thief.me(ctx, deaf))); err != nil {
		return "", fmt.Errorf("%s, healed: %w", deaf.name, err)
	}
	if watch.served > 0 || watch.refused == 0 {
		return "", fmt.Errorf("the session that was logged out was refused %d times and served %d times after that", watch.refused, watch.served)
	}
	return fmt.Sprintf("%s, after the logout elsewhere: %d answers from memory, within %v, then %d refusals; no lease after %v (%s): %v; healed: memory back after %v: %v",
		deaf.name, served, late.Round(time.Millisecond), watch.refused, lost.Round(time.Millisecond), cause, alone, back.Round(time.Millisecond), free), nil
}

// gapsSince says why a node has emptied its memory since, or nothing.
func gapsSince(before, after nodeStats) string {
	was, is := before.Stats.Cache, after.Stats.Cache
	var why []string
	for _, g := range []struct {
		name    string
		was, is uint64
	}{
		{"lost connections", was.Disconnects, is.Disconnects},
		{"silences", was.Silences, is.Silences},
		{"clock jumps", was.ClockJumps, is.ClockJumps},
		{"unknown messages", was.UnknownPayloads, is.UnknownPayloads},
	} {
		if g.is > g.was {
			why = append(why, fmt.Sprintf("%s: %d", g.name, g.is-g.was))
		}
	}
	return strings.Join(why, ", ")
}

// watcher asks a node for a session every now and then.
type watcher struct {
	cancel          context.CancelFunc
	done            chan struct{}
	served, refused int
}

func (c *postgresCheck) watch(ctx context.Context, n *node, b *browser) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		_, _ = until(ctx, func() (bool, error) {
			_, err := b.me(ctx, n)
			switch {
			case err == nil:
				w.served++
			case refused(err) == nil:
				w.refused++
			}
			return false, nil
		})
	}()
	return w
}

// stop ends it. It may be called again.
func (w *watcher) stop() {
	w.cancel()
	<-w.done
}

// logoutOnAllNodes logs out so that no node can serve the session when the call returns,
// though one of them hears nothing.
func (c *postgresCheck) logoutOnAllNodes(ctx context.Context) (string, error) {
	deaf, other, err := c.apart(ctx)
	if err != nil {
		return "", err
	}
	trent, _, err := c.somebodyIn(ctx, other, "trent")
	if err != nil {
		return "", err
	}
	if err := c.warm(ctx, c.fleet.nodes, trent); err != nil {
		return "", err
	}
	thief := trent.with(trent.id())
	interrupt(deaf.link)
	defer func() { _ = deaf.link.Heal() }() // if the step fails
	watch := c.watch(ctx, deaf, thief)
	defer watch.stop()
	began := time.Now()
	if _, err := trent.end(ctx, other, "/logout?nodes=all"); err != nil {
		return "", err
	}
	took := time.Since(began)
	if err := on(ctx, c.fleet.nodes, func(ctx context.Context, n *node) error {
		if err := refused(second(thief.me(ctx, n))); err != nil {
			return fmt.Errorf("%s, when the call has returned: %w", n.name, err)
		}
		return nil
	}); err != nil {
		return "", err
	}
	watch.stop()
	if err := deaf.link.Heal(); err != nil {
		return "", err
	}
	if _, err := c.leased(ctx, deaf, true); err != nil {
		return "", err
	}
	return fmt.Sprintf("it took %v, in which %s, which heard nothing, answered %d times from memory; when it returned, all %d nodes refused",
		took.Round(time.Millisecond), deaf.name, watch.served, len(c.fleet.nodes)), nil
}
