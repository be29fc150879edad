package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// plan says how much is measured.
type plan struct {
	rounds     int
	duration   time.Duration // of a turn
	sessions   int           // of each store; at least as many as goroutines
	goroutines []int
	progress   io.Writer
}

type results struct {
	plan
	site    *site
	samples [][][2][]sample // by number of goroutines, operation, candidate (ours first) and round
}

// measure starts everything, measures and ends everything.
func measure(ctx context.Context, e engine, p plan) (res *results, err error) {
	where, err := e.start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, where.close()) }()
	fmt.Fprintf(p.progress, "%s: %d sessions for each store\n", e.name, p.sessions)
	var both [2]*contender
	for i, cand := range []candidate{where.own, where.peer} {
		c, err := enter(ctx, cand, p.sessions)
		if err != nil {
			return nil, err
		}
		both[i] = c
		defer func() {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnLimit)
			defer cancel()
			err = errors.Join(err, c.close(last))
		}()
	}
	res = &results{plan: p, site: where}
	for _, n := range p.goroutines {
		fmt.Fprintf(p.progress, "%s, %d at a time: %d rounds of %d turns of %v, after one that does not count\n",
			e.name, n, p.rounds, len(both)*len(operations), p.duration)
		samples, err := compare(ctx, both, n, p)
		if err != nil {
			return nil, err
		}
		res.samples = append(res.samples, samples)
	}
	return res, nil
}

// compare lets both take turns. In each round another one begins.
func compare(ctx context.Context, both [2]*contender, goroutines int, p plan) ([][2][]sample, error) {
	samples := make([][2][]sample, len(operations))
	for round := range p.rounds + 1 {
		for o, op := range operations {
			for i := range both {
				i = (i + round) % len(both)
				s, err := both[i].turn(ctx, op, goroutines, p.duration)
				if err != nil {
					return nil, err
				}
				if round > 0 {
					samples[o][i] = append(samples[o][i], s)
				}
			}
		}
	}
	for _, c := range both { // what was written is there
		if err := c.check(ctx); err != nil {
			return nil, err
		}
	}
	return samples, nil
}
