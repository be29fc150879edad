package pgstore

import (
	"context"

	"github.com/sojourn-go/sojourn/session"
)

// Destroy implements session.Store. It uses a connection of the store's own,
// so that a logout does not queue behind the application's queries. After a
// lost answer the count may leave out sessions that the first attempt ended.
func (s *Store) Destroy(ctx context.Context, keys ...session.Key) (int64, error) {
	if err := s.begun(ctx); err != nil {
		return 0, wrap("destroy", err)
	}
	var live int64
	seen := make(map[session.Key]bool, len(keys))
	for len(keys) > 0 {
		var ops []*op
		for _, key := range keys {
			at, err := s.locateToWrite(ctx, key)
			if isNotFound(err) {
				continue
			}
			if err != nil {
				return live, wrap("destroy", err)
			}
			if !seen[at] {
				seen[at] = true
				ops = append(ops, &op{key: at})
			}
		}
		if err := s.destroys.start(ops...); err != nil {
			return live, wrap("destroy", err)
		}
		// A renewed session lives on in its successor, which may be renewed
		// while we look: follow each to its end.
		keys = nil
		var firstErr error
		for _, o := range ops {
			if err := s.destroys.await(ctx, o); err != nil {
				if firstErr == nil {
					firstErr = err
				}
				continue
			}
			if o.live {
				live++
			}
			if !o.next.IsZero() {
				keys = append(keys, o.next)
			}
		}
		if firstErr != nil {
			return live, wrap("destroy", firstErr)
		}
	}
	s.stats.destroys.Add(uint64(live))
	return live, nil
}

func (s *Store) flushDestroys(ctx context.Context, ops []*op, mode flushMode) ([]*op, error) {
	w := newWrite(ctx, s, s.control, startBatch, mode)
	for _, part := range s.spans(ops, mode) {
		w.queue(part, part.q.destroy)
	}
	if err := w.send(ctx); err != nil {
		return nil, err
	}
	var held []*op
	dead := make(map[session.Key]struct{}, len(ops))
	for _, o := range ops {
		now, written := w.now[o]
		if !written && w.held(o) {
			held = append(held, o)
			continue
		}
		dead[o.key] = struct{}{}
		o.live, o.next = now.live, w.was[o].next
		s.destroys.settle(o, nil)
	}
	for _, l := range []*lane{s.saves, s.touches} {
		l.overtake(dead)
	}
	return held, nil
}
