package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sojourn-go/sojourn/internal/faultproxy"
)

// fleet is the nodes.
type fleet struct {
	nodes []*node
}

// node is a process that keeps its name and address when it is started again.
type node struct {
	name   string
	conf   nodeConfig
	listen func(node string, e entry)
	link   *faultproxy.Proxy // nil: not rerouted

	mu   sync.Mutex
	addr string
	proc *process // nil before the first start
}

const (
	startLimit = 3 * time.Minute
	stopLimit  = shutdownLimit * 3 / 2 // longer than a node gives itself
)

func newFleet(kind backend, db database, n int, listen func(node string, e entry)) *fleet {
	f := &fleet{}
	for i := range n {
		conf := db.node()
		conf.Store, conf.Name = kind.name, fmt.Sprintf("node %d", i+1)
		f.nodes = append(f.nodes, &node{name: conf.Name, listen: listen, conf: conf})
	}
	return f
}

// start starts all nodes at once, as a deployment does.
func (f *fleet) start(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range f.nodes {
		g.Go(func() error { return n.start(ctx) })
	}
	return g.Wait()
}

// keep starts nodes again that end, until ctx does.
func (f *fleet) keep(ctx context.Context) {
	var keepers sync.WaitGroup
	for _, n := range f.nodes {
		keepers.Go(func() { n.keep(ctx) })
	}
	keepers.Wait()
}

// stop stops all nodes, and says which did not end in good order.
func (f *fleet) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	errs := make([]error, len(f.nodes))
	var stops sync.WaitGroup
	for i, n := range f.nodes {
		stops.Go(func() {
			if p := n.process(); p != nil {
				if err := p.stop(ctx); err != nil {
					errs[i] = fmt.Errorf("%s: %w", n.name, err)
				}
			}
		})
	}
	stops.Wait()
	return errors.Join(errs...)
}

// start starts the node and waits until it serves. It is not called while the
// node runs.
func (n *node) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready after %v", startLimit))
	defer cancel()
	conf := n.conf
	conf.Addr = n.address()
	p, err := spawn(conf, func(e entry) { n.listen(n.name, e) })
	if err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	n.mu.Lock()
	n.proc = p
	n.mu.Unlock()
	addr, err := p.await(ctx)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	n.mu.Lock()
	n.addr = addr
	n.mu.Unlock()
	return nil
}

func (n *node) keep(ctx context.Context) {
	const pause = time.Second
	for {
		p := n.process()
		select {
		case <-ctx.Done():
			return
		case <-p.done:
		}
		n.listen(n.name, notice("ended ("+p.epitaph()+"); it is started again"))
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			err := n.start(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			n.listen(n.name, notice(err.Error()))
		}
	}
}

func (n *node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// address is where the node listens, or did and will again; empty before the
// first start.
func (n *node) address() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addr
}

func (n *node) url(path string) string { return "http://" + n.address() + path }

func notice(text string) entry { return entry{level: "warn", message: text, text: text, raw: text} }
