package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
)

// A request by itself that finds the session changed reads it and tries again. Of
// n that save at the same time, that would make n²/2 writes.

// merger has the requests of this node that save one session at the same time
// share a write.
type merger struct {
	m  *Manager
	mu sync.Mutex
	of map[Key]*merge
}

// merge is the writes of one session. A goroutine makes them one after the
// other, each with all that has come since the one before. It ends when nobody
// waits for it.
type merge struct {
	key      Key    // that the requests have
	known    Record // the newest that the requests have read or the merge has saved
	collided int    // attempts since then that another node's write has refuted

	// Guarded by merger.mu:
	queue   []*share
	callers int // those who wait for the attempt under way
	cancel  context.CancelCauseFunc
}

// share is what one request saves.
type share struct {
	rec    Record                                 // as the request knows the session
	values map[string]json.RawMessage             // of rec, with the changes
	change func(map[string]json.RawMessage) error // makes the changes to other values
	exact  bool                                   // whether a conflict is an error
	quiet  bool                                   // whether it postpones no idle timeout
	// whole, if set, is done in place of all that, while no other request of this
	// node writes the session. It is given the newest version that is known, and
	// returns what others may go on with; the zero Record has them read it.
	whole func(known Record) (Record, error)

	ctx   context.Context
	merge *merge
	alone bool // whether it shares no write
	turn  chan turn
	made  chan error
	gone  chan struct{} // closed when the caller has given up
	done  chan struct{} // closed when saved and err are there
	saved Record
	err   error

	// Guarded by merger.mu:
	left, finished bool
	tried          bool // whether it is part of the attempt under way
	sent           bool // whether the store may be writing it
}

// turn has a caller do its part.
type turn struct {
	values map[string]json.RawMessage
	known  Record
}

// errNotMade stands for a function of Update that did not return.
var errNotMade = errors.New("session: the change was not made")

// crash is a panic on the goroutine of a merge, which is the callers' own.
type crash struct{ value any }

func (c crash) Error() string { return fmt.Sprint("session: panic: ", c.value) }

// save saves what a request has changed, and returns the session as it was
// saved. The functions of the changes run on the calling goroutine. When ctx
// ends, the error is ErrUnknown if the changes may be saved all the same.
func (m *merger) save(ctx context.Context, s *share) (Record, error) {
	s.ctx = ctx
	s.turn, s.made = make(chan turn), make(chan error, 1)
	s.gone, s.done = make(chan struct{}), make(chan struct{})
	m.add(s)
	for {
		select {
		case turn := <-s.turn:
			s.take(turn)
		case <-s.done:
			return s.result()
		case <-ctx.Done():
			return m.leave(s)
		}
	}
}

func (m *merger) add(s *share) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.of[s.rec.Key]
	if g == nil {
		g = &merge{key: s.rec.Key}
		m.of[s.rec.Key] = g
		go m.run(g)
	}
	s.merge = g
	g.queue = append(g.queue, s)
}

// take makes the changes. If one panics or ends the goroutine, that happens to
// its own request alone.
func (s *share) take(turn turn) {
	err := errNotMade
	defer func() { s.made <- err }()
	if s.whole != nil {
		s.saved, err = s.whole(turn.known)
		return
	}
	err = s.change(turn.values)
}

// pass has a caller take its turn. There is none if the caller has given up.
func (s *share) pass(turn turn) (taken bool, err error) {
	select {
	case s.turn <- turn:
		return true, <-s.made
	case <-s.gone:
		return false, nil
	}
}

func (s *share) result() (Record, error) {
	if c, ok := errors.AsType[crash](s.err); ok {
		panic(c.value)
	}
	return s.saved, wait.Because(s.ctx, s.err)
}

// leave is for a caller whose context has ended. The last one ends the attempt
// too, and learns what came of it.
func (m *merger) leave(s *share) (Record, error) {
	last, sent := m.left(s)
	switch {
	case last:
		<-s.done
		return s.result()
	case sent:
		return Record{}, fmt.Errorf("%w: %w", ErrUnknown, wait.Ended(s.ctx))
	}
	return Record{}, wait.Ended(s.ctx)
}

func (m *merger) left(s *share) (last, sent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.finished {
		return true, false
	}
	s.left = true
	close(s.gone)
	if s.tried {
		if s.merge.callers--; s.merge.callers == 0 {
			s.merge.cancel(context.Cause(s.ctx))
			return true, s.sent
		}
	}
	return false, s.sent
}

func (m *merger) run(g *merge) {
	for {
		ctx, batch := m.next(g)
		if len(batch) == 0 {
			return
		}
		m.attempt(ctx, g, batch)
		// Callers that got their answer may have more to save: let them queue first.
		runtime.Gosched()
	}
}

// next takes the shares of the next attempt.
func (m *merger) next(g *merge) (ctx context.Context, batch []*share) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g.cancel != nil {
		g.cancel(nil) // the attempt before
	}
	g.queue = slices.DeleteFunc(g.queue, func(s *share) bool {
		if s.left && !s.finished {
			g.finish(s, Record{}, g.because(wait.Ended(s.ctx)))
		}
		s.tried, s.sent = false, false
		return s.finished
	})
	for _, s := range g.queue {
		if s.whole != nil {
			s.alone = true
		}
		if len(batch) > 0 && (s.alone || batch[0].alone) {
			break
		}
		s.tried = true
		batch = append(batch, s)
	}
	if len(batch) == 0 {
		delete(m.of, g.key)
		return nil, nil
	}
	g.callers = len(batch)
	ctx, g.cancel = lasting(batch)
	return ctx, batch
}

// lasting is the context of an attempt for several callers, which lasts as long
// as the longest of theirs.
func lasting(batch []*share) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(batch[0].ctx))
	var latest time.Time
	for _, s := range batch {
		deadline, ok := s.ctx.Deadline()
		if !ok {
			return ctx, cancel
		}
		if deadline.After(latest) {
			latest = deadline
		}
	}
	ctx, stop := context.WithDeadline(ctx, latest)
	return ctx, func(cause error) { cancel(cause); stop() }
}

// attempt tries to save the changes of a batch. Those that are neither saved nor
// refused stay in the queue.
func (m *merger) attempt(ctx context.Context, g *merge, batch []*share) {
	defer func() {
		if value := recover(); value != nil {
			m.finish(g, Record{}, crash{value}, batch...)
		}
	}()
	if s := batch[0]; s.whole != nil {
		if taken, err := s.pass(turn{known: g.known}); taken {
			if s.saved.Key.IsZero() {
				g.collided = 1
			} else {
				g.known, g.collided = s.saved, 0
			}
			m.finish(g, s.saved, err, s)
		}
		return
	}
	if g.collided > 0 {
		if err := m.reread(ctx, g); err != nil {
			m.finish(g, Record{}, g.because(err), batch...)
			return
		}
	}
	for _, s := range batch {
		if s.rec.Version > g.known.Version {
			g.known = s.rec
		}
	}
	made, values, err := m.change(g, batch)
	if err != nil {
		m.finish(g, Record{}, err, batch...)
		return
	}
	if !m.send(made) {
		return
	}
	used := slices.ContainsFunc(made, func(s *share) bool { return !s.quiet })
	rec, err := m.write(ctx, g.known, values, used)
	switch {
	case err == nil:
		g.known, g.collided = rec, 0
		m.finish(g, rec, nil, made...)
	case errors.Is(err, ErrConflict):
		g.collided++
		if s := made[0]; s.exact { // no other can be
			m.finish(g, Record{}, err, s)
		}
	case len(made) > 1 && (errors.Is(err, ErrTooLarge) || errors.Is(err, ErrInvalid)): // one of them may be at fault
		for _, s := range made {
			s.alone = true
		}
	default:
		m.finish(g, Record{}, g.because(err), made...)
	}
}

// because adds to the error of an attempt that the attempt before was in
// conflict, which says more than that time was up.
func (g *merge) because(err error) error {
	if g.collided == 0 || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w; before that: %w", err, ErrConflict)
}

// reread reads the session past the node's memory. In a renewal's grace period
// it finds the successor.
func (m *merger) reread(ctx context.Context, g *merge) error {
	// The pauses are short: the node whose write succeeded makes none.
	pauses := wait.Backoff{First: 200 * time.Microsecond, Most: 2 * time.Millisecond}
	if g.collided > 1 && !pauses.Pause(ctx, g.collided-1) {
		return wait.Ended(ctx)
	}
	rec, err := m.m.fresh(ctx, g.key)
	if err != nil {
		return err
	}
	g.known = rec
	return nil
}

// change has each caller make its changes, in the order in which they came. made
// are the shares whose changes are in values.
func (m *merger) change(g *merge, batch []*share) (made []*share, values map[string]json.RawMessage, err error) {
	known := g.known
	if s := batch[0]; len(batch) == 1 && s.rec.Key == known.Key && s.rec.Version == known.Version {
		return batch, s.values, nil
	}
	values, err = m.m.valuesOf(known)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range batch {
		switch {
		case s.rec.User != known.User: // it must not get what the request did as the user before
			m.finish(g, Record{}, fmt.Errorf("%w: it has another user now", ErrNotFound), s)
			continue
		case s.exact && (len(made) > 0 || s.rec.Version != known.Version):
			m.finish(g, Record{}, fmt.Errorf("%w: another request has saved the session", ErrConflict), s)
			continue
		}
		changed := maps.Clone(values)
		switch taken, err := s.pass(turn{values: changed}); {
		case err != nil:
			m.finish(g, Record{}, err, s)
		case taken:
			values, made = changed, append(made, s)
		}
	}
	return made, values, nil
}

// send reports whether there is something to write: nothing is if one of the
// callers has given up meanwhile, who counts on that.
func (m *merger) send(made []*share) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range made {
		if s.left {
			return false
		}
	}
	for _, s := range made {
		s.sent = true
	}
	return len(made) > 0
}

// valuesOf decodes what the session holds.
func (m *Manager) valuesOf(rec Record) (map[string]json.RawMessage, error) {
	h, body, err := split(rec.Data)
	if err != nil {
		return nil, err
	}
	if !m.owns(h, rec) {
		return nil, fmt.Errorf("%w: it is another manager's now", ErrNotFound)
	}
	return m.decode(rec, body)
}

// write saves the session. used says whether that postpones its idle timeout.
func (m *merger) write(ctx context.Context, known Record, values map[string]json.RawMessage, used bool) (saved Record, err error) {
	h, _, err := split(known.Data)
	if err != nil {
		return Record{}, err
	}
	h.turn = (h.turn + 1) % versionCookies
	data, err := m.m.encode(m.m.bound(known.Key, known.User), h, values)
	if err != nil {
		return Record{}, err
	}
	err = timed(func() (err error) {
		rec := known
		rec.Data, rec.Expires = data, time.Time{}
		if used {
			rec.Expires = m.m.expiry(m.m.policyOf(h))
		}
		saved, err = m.m.store.Save(ctx, rec)
		return err
	})
	saved.Data = data
	return saved, err
}

func (m *merger) finish(g *merge, saved Record, err error, shares ...*share) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range shares {
		if !s.finished {
			g.finish(s, saved, err)
		}
	}
}

// finish tells a caller what came of its share.
func (g *merge) finish(s *share, saved Record, err error) {
	if s.tried && !s.left {
		g.callers--
	}
	s.finished, s.saved, s.err = true, saved, err
	close(s.done)
}
