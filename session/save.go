package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// Save saves now what would be saved before the first byte, for handlers that
// go on for long or want to know. After Login it is the login that is saved: if the
// handler then panics, whoever recovers has the cookie in its header. When that
// fails, there is no login: the session is as it was before. Save is
// ErrNotFound if the session has ended
// while the request was under way: the changes are dropped. It is ErrConflict
// after FailOnConflict if somebody else has saved. When it fails, the handler answers:
// only another Save tries again, and only Reload forgets what was to be saved.
func (s *Session) Save(ctx context.Context) error {
	return s.do(ctx, func() error {
		if err := s.writable(); err != nil {
			return err
		}
		if s.dead() {
			return errEnded
		}
		err := s.store(reqsession.Exactly(ctx), reqsession.ReachOf(s.ctx, reqsession.Later))
		s.state.Saved(err)
		if err != nil && s.next != nil {
			if bad := s.cancel(); bad != nil {
				return errors.Join(err, bad)
			}
		}
		return err
	})
}

// FailOnConflict makes a save fail with ErrConflict if somebody else has saved the
// session since it was loaded, instead of making this request's changes to
// what they saved. To try again, call Reload.
func (s *Session) FailOnConflict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exact = true
}

// Reload forgets what the request has changed and reads the session from the
// database, past the node's memory. It is ErrNotFound if it has ended. With any
// other error the session stays as it was, with the changes.
func (s *Session) Reload(ctx context.Context) error {
	return s.do(ctx, func() error {
		if s.state.Closed() {
			return fmt.Errorf("%w: the request is over", ErrTooLate)
		}
		before, state := s.content, s.state
		err := s.reload(ctx)
		if err != nil && !s.dead() {
			s.content, s.state = before, state
		}
		return err
	})
}

func (s *Session) reload(ctx context.Context) error {
	if s.rec.Key.IsZero() {
		return s.state.Read(func() error { return s.load(ctx, s.m.fresh) })
	}
	s.delta, s.next = delta{}, nil
	s.state.Saved(nil) // nothing is left to save
	return s.refetch(ctx)
}

// store writes what there is to write: a login, a new session, another ID,
// changes, or a touch. reach says which of them can be done.
func (s *Session) store(within reqsession.Limits, reach reqsession.Reach) error {
	switch {
	case s.dead() || s.state.Is(reqsession.Degraded) || s.state.Sealed() && s.rec.Key.IsZero():
		return nil
	case s.next != nil:
		if reach > reqsession.Later {
			return s.tooLate(reach)
		}
		return s.take(within)
	case s.rec.Key.IsZero():
		uninitialized := s.m.opts.SaveUninitialized && s.line == "" && reach <= reqsession.Later // not after a logout
		switch {
		case len(s.values) == 0 && !uninitialized:
			return nil
		case reach == reqsession.Nobody:
			return s.tooLate(reach)
		}
		return s.begin(within, s.draft("", s.head.policy), UserLimit{})
	case reach == reqsession.Sent && s.renewalDue():
		grace := s.policy.RenewGrace
		if s.byOldToken() {
			grace = max(grace, oldGrace)
		}
		d := s.rotation(grace)
		d.due = s.renewalDue
		err := s.renew(within, d, UserLimit{})
		if err == nil || s.dead() {
			return err
		}
		if !errors.Is(err, errNotDue) {
			s.happened(Event{Kind: EventRenewFailed, Err: err})
			s.warn("session: renewal failed", s.rec.Key, err)
		}
	}
	if s.delta.differs(s.values) {
		return s.save(within)
	}
	if s.quiet {
		return nil
	}
	if err := s.touch(); err != nil && !errors.Is(err, ErrNotFound) { // one that ended meanwhile needs none
		s.happened(Event{Kind: EventTouchFailed, Err: err})
		s.warn("session: touch failed", s.rec.Key, err)
	}
	return nil
}

// renewalDue reports whether it is time for another ID, and can be done.
func (s *Session) renewalDue() bool {
	after := s.policy.RenewAfter
	switch {
	case s.state.Sealed():
		return false
	case s.byOldToken():
		return true
	case after == 0:
		return false
	}
	now := s.m.now()
	return now.Sub(s.head.issuedAt()) >= after ||
		s.policy.endless(s.rec.User == "") && s.rec.Deadline.Sub(now) < min(after, s.m.longest()/2)
}

// save writes the changes. If others have saved meanwhile, it makes them to
// what those have saved.
func (s *Session) save(within reqsession.Limits) error {
	ctx, cancel := within()
	defer cancel()
	merged := false
	rec, err := s.m.merger.save(ctx, &share{rec: s.rec, values: s.values, exact: s.exact, quiet: s.quiet, change: func(values map[string]json.RawMessage) error {
		merged = true
		return s.delta.apply(values)
	}})
	switch {
	case errors.Is(err, ErrNotFound):
		return s.died(err)
	case errors.Is(err, ErrUndecodable):
		return s.lost(err)
	case err != nil:
		return err
	}
	s.rec, s.delta, s.saved = rec, delta{}, true
	if s.r == nil {
		s.latest = rec
	}
	if merged {
		s.values = nil
	}
	s.head, s.body, err = split(rec.Data)
	return err
}

// lost is for a session that another has saved so that it cannot be decoded.
func (s *Session) lost(err error) error {
	before := s.content
	if err := s.undecodable(s.rec.Key, err); err != nil {
		return err
	}
	s.content = before
	return s.died(err)
}

// again prepares another attempt at a write that failed, where there is a point
// in one.
func (s *Session) again(ctx context.Context, err error, attempt int) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return s.died(err)
	case !errors.Is(err, ErrConflict), s.exact && !s.delta.empty():
		return err
	}
	if err := reqsession.Collided(ctx, err, attempt); err != nil {
		return err
	}
	return s.refetch(ctx)
}

// refetch reads the session again, past the cache, and makes the changes to it.
// In a renewal's grace period it finds the successor. When it fails, the session
// stays as it was, unless it has ended.
func (s *Session) refetch(ctx context.Context) error {
	rec, err := s.m.fresh(ctx, s.rec.Key)
	switch {
	case errors.Is(err, ErrNotFound):
		return s.died(err)
	case err != nil:
		return err
	}
	return s.rebase(rec)
}

// rebase makes the changes to a later version of the session. One that has got
// another user must not get what the request did as the user before.
func (s *Session) rebase(rec Record) error {
	if rec.User != s.rec.User {
		return s.died(fmt.Errorf("%w: it has another user now", ErrNotFound))
	}
	before := s.content
	err := s.adopt(rec)
	if err == nil {
		err = s.decode()
	}
	if err == nil && s.rec.Key.IsZero() { // it cannot be decoded any more
		s.content = before
		return s.died(ErrUndecodable)
	}
	if err == nil {
		s.delta = before.delta
		err = s.reapply()
	}
	if err != nil {
		s.content = before
	}
	return err
}

// reapply makes the changes to the values as they were read.
func (s *Session) reapply() error {
	s.delta.base = maps.Clone(s.values)
	return s.delta.apply(s.values)
}

// errEnded is the error of calls after the session was found to have ended.
var errEnded = fmt.Errorf("%w: it ended while the request was under way", ErrNotFound)

// died gives the changes up. Neither is the session created again nor the
// cookie touched: by now the browser may have another one.
func (s *Session) died(err error) error {
	s.next = nil
	if !s.delta.empty() {
		s.happened(Event{Kind: EventSaveDropped, Err: err})
	}
	s.delta = delta{}
	s.state.Become(reqsession.Dead)
	return fmt.Errorf("session: the changes are dropped: %w", err)
}

// touch postpones the idle timeout if enough of it has passed.
func (s *Session) touch() error {
	idle := s.policy.IdleTimeout
	if idle == 0 {
		return nil
	}
	expires := s.m.now().Add(idle)
	capped := !expires.Before(s.rec.Deadline)
	if capped {
		expires = s.rec.Deadline
	}
	gain := expires.Sub(s.rec.Expires)
	if gain <= 0 || !capped && gain < s.m.opts.touchAfter(idle) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), reqsession.TouchLimit)
	defer cancel()
	expires, err := s.m.touch(ctx, s.rec.Key, expires)
	if err == nil {
		s.rec.Expires = expires
	}
	return err
}

// encode returns the data, with the changes, of a record with that key and user.
// Values that were not decoded are encoded again only if they are bound to
// another.
func (s *Session) encode(h head, key Key, user string) ([]byte, error) {
	values, of := s.values, s.m.bound(key, user)
	if values == nil && !s.rec.Key.IsZero() {
		if _, unbound := s.m.opts.Codec.(JSON); unbound || of == s.m.bound(s.rec.Key, s.rec.User) {
			return join(h, s.body)
		}
		var err error
		if values, err = s.m.decode(s.rec, s.body); err != nil {
			return nil, err
		}
	}
	return s.m.encode(of, h, values)
}

func (m *Manager) encode(of Binding, h head, values map[string]json.RawMessage) ([]byte, error) {
	body, err := m.opts.Codec.Encode(of, values)
	if err != nil {
		return nil, fmt.Errorf("%w: the values cannot be encoded: %w", ErrInvalid, err)
	}
	return join(h, body)
}

// expiry is the end of the idle timeout of a session that is used now; zero if
// it has none.
func (m *Manager) expiry(p Policy) time.Time {
	if p.IdleTimeout == 0 {
		return time.Time{}
	}
	return m.now().Add(p.IdleTimeout)
}
