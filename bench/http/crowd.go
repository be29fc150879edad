package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// crowd is the server of a candidate with all its clients.
type crowd struct {
	server  *child
	clients []*client
}

// gather starts a candidate's server and logs its visitors in.
func gather(ctx context.Context, number int, dsn string, p plan) (*crowd, error) {
	server, err := spawn(ctx, number, dsn)
	if err != nil {
		return nil, err
	}
	c := &crowd{server: server}
	for i := range p.clients {
		conn, err := dial(ctx, server.addr)
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		conn.forgets = candidates[number].stateless
		conn.next = i
		c.clients = append(c.clients, conn)
	}
	// Nobody has two connections: a visitor's answers depend on their last request.
	err = c.all(ctx, startLimit, func(conn *client) error {
		for i := conn.next; i < p.sessions; i += p.clients {
			if err := conn.admit(fmt.Sprintf("user-%04d", i)); err != nil {
				return err
			}
		}
		conn.next = 0
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// close leaves the server and ends it.
func (c *crowd) close() error {
	var errs []error
	for _, conn := range c.clients {
		errs = append(errs, conn.conn.Close())
	}
	return errors.Join(append(errs, c.server.stop())...)
}

// all has each client do something, at the same time and for limit at most.
func (c *crowd) all(ctx context.Context, limit time.Duration, do func(*client) error) error {
	errs := make([]error, len(c.clients))
	var wg sync.WaitGroup
	for i, conn := range c.clients {
		if err := conn.conn.SetDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		wg.Go(func() { errs[i] = do(conn) })
	}
	cut := context.AfterFunc(ctx, func() {
		for _, conn := range c.clients {
			_ = conn.conn.SetDeadline(time.Unix(1, 0))
		}
	})
	wg.Wait()
	cut()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, err := range errs {
		if err != nil { // the others will say the same
			return fmt.Errorf("%s: %w", c.server.name, err)
		}
	}
	return nil
}

// sample is what a turn has shown. All but the rate is per request.
type sample struct {
	rate           float64 // requests per second
	p50, p99       time.Duration
	cpu            time.Duration
	mallocs, bytes float64
	acquires       float64
}

// turn sends requests for a while.
func (c *crowd) turn(ctx context.Context, w workload, duration time.Duration) (s sample, err error) {
	before, err := c.server.usage(ctx)
	if err != nil {
		return s, err
	}
	var over atomic.Bool
	start := time.Now()
	timer := time.AfterFunc(duration, func() { over.Store(true) })
	defer timer.Stop()
	err = c.all(ctx, duration+stopLimit, func(conn *client) error {
		conn.took = conn.took[:0]
		for last := time.Now(); ; {
			if err := w.send(conn, conn.mine[conn.next]); err != nil {
				over.Store(true)
				return err
			}
			if conn.next++; conn.next == len(conn.mine) {
				conn.next = 0
			}
			now := time.Now()
			conn.took = append(conn.took, now.Sub(last))
			last = now
			if over.Load() {
				return nil
			}
		}
	})
	elapsed := time.Since(start)
	if err != nil {
		return s, fmt.Errorf("%s: %w", w.name, err)
	}
	after, err := c.server.usage(ctx)
	if err != nil {
		return s, err
	}
	var took []time.Duration
	for _, conn := range c.clients {
		took = append(took, conn.took...)
	}
	slices.Sort(took)
	n := len(took)
	each := func(amount uint64) float64 { return float64(amount) / float64(n) }
	return sample{
		rate:     float64(n) / elapsed.Seconds(),
		p50:      took[n/2],
		p99:      took[n*99/100],
		cpu:      (after.CPU - before.CPU) / time.Duration(n),
		mallocs:  each(after.Mallocs - before.Mallocs),
		bytes:    each(after.Bytes - before.Bytes),
		acquires: each(after.Acquires - before.Acquires),
	}, nil
}

// check reads every visitor's theme once, by which the server has also seen all
// of them lately.
func (c *crowd) check(ctx context.Context) error {
	return c.all(ctx, startLimit, func(conn *client) error {
		for _, v := range conn.mine {
			if err := conn.sendRead(v); err != nil {
				return fmt.Errorf("check: %w", err)
			}
		}
		return nil
	})
}
