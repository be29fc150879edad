package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// fleet is the nodes and the database that they share.
type fleet struct {
	kind  backend
	db    *database
	nodes []*node
	say   func(node, line string) // is told what nodes log
}

// node is a process that keeps its name and address when it is started again.
type node struct {
	conf nodeConfig // with its address and its peers once the fleet has started
	proc *process
}

const (
	nodeCount  = 3
	startLimit = 3 * time.Minute
	stopLimit  = 3 * shutdownLimit // a node gives itself two
)

// startFleet opens a database of a kind and starts all nodes at once, as a
// deployment does. If one does not start, nothing is left.
func startFleet(ctx context.Context, kind string, out io.Writer, say func(node, line string)) (*fleet, error) {
	b, db, err := openDatabase(ctx, kind, out)
	if err != nil {
		return nil, err
	}
	f := &fleet{kind: b, db: db, say: say}
	var starts errgroup.Group
	for i := range nodeCount {
		conf := db.node
		conf.Store, conf.Name = b.name, fmt.Sprintf("node %d", i+1)
		one := &node{conf: conf}
		f.nodes = append(f.nodes, one)
		starts.Go(func() error { return f.start(ctx, one) })
	}
	if err := starts.Wait(); err != nil {
		_ = f.stop(ctx) // some have not even started
		return nil, err
	}
	f.introduce()
	return f, nil
}

// introduce tells all nodes of each other.
func (f *fleet) introduce() {
	var peers []peer
	for _, n := range f.nodes {
		peers = append(peers, peer{n.conf.Name, n.url("/")})
	}
	for _, n := range f.nodes {
		n.conf.Peers = peers
		_ = n.proc.tell(peers) // if it has ended, it is told when it starts again
	}
}

// start starts a node that does not run and waits until it serves.
func (f *fleet) start(ctx context.Context, n *node) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not ready after %v", startLimit))
	defer cancel()
	p, err := spawn(n.conf, func(line string) { f.say(n.conf.Name, line) })
	if err != nil {
		return fmt.Errorf("start %s: %w", n.conf.Name, err)
	}
	n.proc = p
	addr, err := p.await(ctx)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.conf.Name, err)
	}
	n.conf.Addr = addr
	return nil
}

// keep starts nodes again that end, until ctx does.
func (f *fleet) keep(ctx context.Context) {
	var keepers sync.WaitGroup
	for _, n := range f.nodes {
		keepers.Go(func() {
			for f.restart(ctx, n) {
			}
		})
	}
	keepers.Wait()
}

// restart waits for a node to end and starts it again. It returns false when ctx
// has ended.
func (f *fleet) restart(ctx context.Context, n *node) bool {
	const pause = time.Second
	select {
	case <-ctx.Done():
		return false
	case <-n.proc.done:
	}
	f.say(n.conf.Name, "ended ("+n.proc.epitaph()+"); it is started again")
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
	}
	if err := f.start(ctx, n); err != nil {
		f.say(n.conf.Name, err.Error())
	}
	return true
}

// stop stops all nodes, says which did not end in good order, and removes what is
// left of the database.
func (f *fleet) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	var stops errgroup.Group
	for _, n := range f.nodes {
		if n.proc == nil {
			continue
		}
		stops.Go(func() error {
			if err := n.proc.stop(ctx); err != nil {
				return fmt.Errorf("%s: %w", n.conf.Name, err)
			}
			return nil
		})
	}
	return errors.Join(stops.Wait(), f.db.close(ctx))
}

func (n *node) url(path string) string { return "http://" + n.conf.Addr + path }
