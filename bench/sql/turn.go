package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// contender is a candidate with its sessions.
type contender struct {
	name    string
	backend backend
	held    []*held // stay
	fresh   []*held // made by the last turn of creates, for one of destroys
}

// held is a session and what it should hold.
type held struct {
	visitor
	saves uint64
	data  []byte
	ended bool
}

// dataSize is what each session holds.
const dataSize = 600

// content is what a session holds after so many saves.
func content(saves uint64) []byte {
	text := fmt.Appendf(nil, "%016d sojourn ", saves)
	return bytes.Repeat(text, dataSize/len(text)+1)[:dataSize]
}

// enter opens a candidate and gives it n sessions.
func enter(ctx context.Context, cand candidate, n int) (*contender, error) {
	b, err := cand.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cand.name, err)
	}
	c := &contender{name: cand.name, backend: b}
	var left atomic.Int64
	left.Store(int64(n))
	_, err = c.all(fillers, nil, func(h *hand) error {
		for left.Add(-1) >= 0 {
			if _, err := h.create(ctx); err != nil {
				return err
			}
			if ctx.Err() != nil { // not every store heeds it
				return context.Cause(ctx)
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, c.close(ctx))
	}
	c.held, c.fresh = c.fresh, nil
	return c, nil
}

func (c *contender) close(ctx context.Context) error { return c.backend.close(ctx) }

// fillers is how many goroutines do what is not measured.
const fillers = 64

// hand is what one goroutine of a turn has.
type hand struct {
	c    *contender
	mine []*held // nobody else uses them meanwhile
	next int
	made []*held
	took []time.Duration
}

// one is the next of the goroutine's sessions.
func (h *hand) one() *held {
	s := h.mine[h.next]
	if h.next++; h.next == len(h.mine) {
		h.next = 0
	}
	return s
}

// operation is what is measured.
type operation struct {
	name string
	ends bool // what the turn of creates before has made
	// do reports false when it has come to the last session.
	do func(*hand, context.Context) (bool, error)
}

var operations = []operation{
	{"get", false, (*hand).get},
	{"save", false, (*hand).save},
	{"touch", false, (*hand).touch},
	{"create", false, (*hand).create},
	{"destroy", true, (*hand).destroy},
}

func (h *hand) get(ctx context.Context) (bool, error) { return true, h.one().check(ctx) }

func (s *held) check(ctx context.Context) error {
	got, err := s.visitor.get(ctx)
	if err == nil && !bytes.Equal(got, s.data) {
		err = fmt.Errorf("a session holds %.20q… instead of %.20q…", got, s.data)
	}
	return err
}

func (h *hand) save(ctx context.Context) (bool, error) {
	s := h.one()
	data := content(s.saves + 1)
	err := s.visitor.save(ctx, data)
	if err == nil {
		s.saves, s.data = s.saves+1, data
	}
	return true, err
}

func (h *hand) touch(ctx context.Context) (bool, error) { return true, h.one().visitor.touch(ctx) }

func (h *hand) create(ctx context.Context) (bool, error) {
	data := content(0)
	v, err := h.c.backend.create(ctx, data)
	if err == nil {
		h.made = append(h.made, &held{visitor: v, data: data})
	}
	return true, err
}

func (h *hand) destroy(ctx context.Context) (bool, error) {
	s := h.one()
	err := s.visitor.destroy(ctx)
	s.ended = err == nil
	return h.next > 0, err
}

// all has n goroutines do something, each with its share of the sessions, and
// keeps what they have made.
func (c *contender) all(n int, sessions []*held, do func(*hand) error) (took []time.Duration, err error) {
	hands, errs := make([]*hand, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		h := &hand{c: c, mine: sessions[len(sessions)*i/n : len(sessions)*(i+1)/n]}
		hands[i] = h
		wg.Go(func() { errs[i] = do(h) })
	}
	wg.Wait()
	for i, h := range hands {
		c.fresh = append(c.fresh, h.made...)
		took = append(took, h.took...)
		if err == nil && errs[i] != nil { // the others will say the same
			err = fmt.Errorf("%s: %w", c.name, errs[i])
		}
	}
	return took, err
}

// sample is what a turn has shown.
type sample struct {
	rate     float64 // operations per second
	p50, p99 time.Duration
}

// turn does one operation for a while.
func (c *contender) turn(ctx context.Context, op operation, goroutines int, duration time.Duration) (s sample, err error) {
	sessions := c.held
	if op.ends {
		sessions, c.fresh = c.fresh, nil
	}
	runtime.GC() // what others have left
	limited, cancel := context.WithTimeoutCause(ctx, duration+turnLimit, fmt.Errorf("%s: a turn of %v takes over %v", c.name, duration, duration+turnLimit))
	defer cancel()
	var over atomic.Bool
	start := time.Now()
	timer := time.AfterFunc(duration, func() { over.Store(true) })
	defer timer.Stop()
	took, err := c.all(goroutines, sessions, func(h *hand) error {
		for last := time.Now(); ; {
			more, err := op.do(h, limited)
			if err != nil || !more {
				over.Store(true)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", op.name, err)
			}
			now := time.Now()
			h.took = append(h.took, now.Sub(last))
			last = now
			if over.Load() {
				return context.Cause(limited) // not every store heeds it
			}
		}
	})
	elapsed := time.Since(start)
	if err == nil && op.ends {
		err = c.clear(ctx, sessions)
	}
	if err != nil {
		return s, err
	}
	slices.Sort(took)
	n := len(took)
	return sample{float64(n) / elapsed.Seconds(), took[n/2], took[n*99/100]}, nil
}

const turnLimit = 30 * time.Second

// clear ends those sessions that a turn of destroys did not come to, and looks
// for all of them.
func (c *contender) clear(ctx context.Context, sessions []*held) error {
	_, err := c.all(fillers, sessions, func(h *hand) error {
		for _, s := range h.mine {
			_, err := s.visitor.get(ctx)
			switch {
			case err == nil && s.ended:
				err = errors.New("a session that was ended is there")
			case err == nil:
				err = s.visitor.destroy(ctx)
			case errors.Is(err, errGone) && s.ended:
				err = nil
			}
			if err != nil {
				return fmt.Errorf("clear: %w", err)
			}
		}
		return nil
	})
	return err
}

// check reads all sessions that stay.
func (c *contender) check(ctx context.Context) error {
	_, err := c.all(fillers, c.held, func(h *hand) error {
		for _, s := range h.mine {
			if err := s.check(ctx); err != nil {
				return fmt.Errorf("check: %w", err)
			}
		}
		return nil
	})
	return err
}
