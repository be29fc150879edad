package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// Session is the session of one request. Its methods may be called
// concurrently, and until the request's handler returns. Outside a handler it is one
// use of a session, until End: see Manager.Open.
//
// What they change is saved before the first byte of the answer. After that,
// the values of a session that the browser already knows can still be changed:
// they are saved by Save or when the handler returns.
//
// A Session prints, logs and marshals as a placeholder.
type Session struct {
	placeholder
	*visit
}

// visit is what a Session is, behind a pointer: where fmt ignores the methods of a
// Session, as in an unexported field, it prints the fields and does not follow this.
type visit struct {
	m   *Manager
	ctx context.Context
	r   *http.Request // nil outside a handler

	mu     reqsession.Lock
	state  reqsession.State
	cookie bool // whether the request came with a cookie of that name
	content
	exact     bool     // whether a conflict is an error
	line      string   // of the header, for the cookie
	stale     []string // lines of the header, for dead cookies beside it
	saved     bool     // whether this request has saved a session that the browser knows
	clearSite bool
	events    []Event

	// Outside a handler:
	token  string // what the client holds
	quiet  bool   // whether the session is changed by somebody who does not use it
	latest Record // what was saved, until the request that did it is told

	// Where the request came by the token of Options.Old:
	oldToken string
	oldKey   Key

	visitor     []byte // what the cookie holds by which a visitor's tokens are checked, once it is asked for
	visitorLine string // of the header, for that cookie
}

// content is what the request knows of its session, and what it changes.
type content struct {
	// rec is the session, with the zero Key if there is none. In a renewal's
	// grace period it is the successor of the session that the cookie names.
	rec    Record
	head   head
	policy Policy
	body   []byte                     // of rec, until it is decoded
	values map[string]json.RawMessage // with the changes
	delta  delta
	next   *draft // what Login or Renew have prepared, nil if nothing
	asked  Key    // of the ID in the cookie by which the session was found
	made   ID     // that the request has given the session
}

// clone is content that later changes leave alone.
func (c content) clone() content {
	c.values, c.delta = maps.Clone(c.values), c.delta.clone()
	return c
}

// dead reports whether the session ended while the request was under way.
func (s *Session) dead() bool { return s.state.Is(reqsession.Dead) }

// do runs f under the lock and then tells the hook what happened.
func (s *Session) do(ctx context.Context, f func() error) error {
	events, saved, err := s.locked(f)
	s.m.emit(ctx, s.r, events...)
	if !saved.Key.IsZero() {
		s.m.follow(ctx, saved)
	}
	return err
}

// errInside is the error of calls that a function makes which runs within one.
var errInside = fmt.Errorf("%w: the function must not use the session", ErrInvalid)

func (s *Session) locked(f func() error) ([]Event, Record, error) {
	if !s.mu.Enter() {
		return nil, Record{}, errInside
	}
	defer s.mu.Unlock()
	err := f()
	events, saved := s.events, s.latest
	s.events, s.latest = nil, Record{}
	return events, saved, err
}

func (s *Session) happened(e Event) {
	if e.Key.IsZero() {
		e.Key = s.rec.Key
	}
	if e.User == "" {
		e.User = s.user()
	}
	s.events = append(s.events, e)
}

func (s *Session) lasting() reqsession.Limits { return reqsession.Lasting(s.ctx) }

// open loads the session with the first call.
func (s *Session) open(ctx context.Context) error {
	return s.do(ctx, func() error {
		return s.state.Open(ctx, s.ctx, func() error { return s.load(ctx, s.m.get(s.r)) })
	})
}

// load finds the session that the cookie names. Its error is nil too if there
// is none.
func (s *Session) load(ctx context.Context, get func(context.Context, Key) (Record, error)) error {
	s.reset()
	if s.r == nil { // the client holds nothing
		return nil
	}
	keys, given := s.m.cookie.read(s.r)
	s.cookie = given > 0
	if s.cookie && len(keys) == 0 {
		s.happened(Event{Kind: EventInvalidID})
	}
	dead := 0
	for i, key := range keys {
		buried, err := s.try(ctx, key, get)
		if err != nil {
			return err
		}
		if buried {
			dead++
		}
		if !s.rec.Key.IsZero() && i > 0 && i == given-1 && dead == i {
			s.sweep()
		}
		if !s.rec.Key.IsZero() || !s.state.Is(reqsession.Usable) {
			return nil
		}
	}
	if s.m.opts.Old != nil {
		return s.takeOver(ctx, get)
	}
	return nil
}

// try takes over the session of key, if there is one. Else buried says whether one
// has ended.
func (s *Session) try(ctx context.Context, key Key, get func(context.Context, Key) (Record, error)) (buried bool, err error) {
	rec, err := s.m.lookUp(ctx, key, get)
	if errors.Is(err, ErrNotFound) {
		s.miss(key, err)
		return s.buried(key, err), nil
	}
	if err != nil {
		return false, s.unread(ctx, key, err)
	}
	err = s.adopt(rec)
	s.asked = key
	return false, err
}

// unread serves the request without its session, or fails it.
func (s *Session) unread(ctx context.Context, key Key, err error) error {
	if s.m.opts.AnonymousOnOutage && !reqsession.Alone(ctx, s.ctx) {
		s.state.Become(reqsession.Degraded)
		s.warn("session: served without the store", key, err)
		return nil
	}
	return fmt.Errorf("session: load: %w", err)
}

// lookUp reads a session for a request that came with its ID. How many IDs of
// which there never was a session are looked up is bounded, if the store can tell
// and anybody can make them up.
func (m *Manager) lookUp(ctx context.Context, key Key, get func(context.Context, Key) (Record, error)) (rec Record, err error) {
	if !m.explains || m.cookie.signed() {
		return get(ctx, key)
	}
	ended := m.strangers.LookUp(ctx, key.Hash, func() reqsession.LookedUp {
		rec, err = get(ctx, key)
		switch {
		case err == nil || FateOf(err) != FateUnknown:
			return reqsession.Met
		case errors.Is(err, ErrNotFound):
			return reqsession.Stranger
		}
		return reqsession.Unanswered
	})
	if ended != nil {
		return Record{}, ended
	}
	return rec, err
}

// warn logs what failed of a session's request.
func (s *Session) warn(what string, key Key, err error) {
	s.m.log.Tell(zap.WarnLevel, what, kindOf(err), s.r, zap.Stringer("session", key), zap.Error(err))
}

// reset makes it an empty session.
func (s *Session) reset() {
	s.content = content{policy: s.m.policy}
}

// miss tells why there is no session, where the store knows. Anybody can make up
// an ID whose hour has passed. A signed one, though, is one of a session that the
// store has forgotten.
func (s *Session) miss(key Key, err error) {
	e := Event{Kind: EventUnknownID, Key: key}
	switch fate := FateOf(err); {
	case fate == FateEnded || fate == FateRenewed:
		e.Kind = EventEnded
	case fate == FateExpired, s.m.cookie.signed() && key.Bucket < BucketOf(s.m.now()):
		e.Kind = EventExpired
	}
	s.happened(e)
}

// adopt takes over a record that was read from the store.
func (s *Session) adopt(rec Record) error {
	h, body, err := split(rec.Data)
	if err != nil {
		return s.undecodable(rec.Key, err)
	}
	if !s.m.owns(h, rec) {
		s.happened(Event{Kind: EventUnknownID, Key: rec.Key})
		s.reset()
		return nil
	}
	s.rec, s.head, s.policy, s.body, s.values = rec, h, s.m.policyOf(h), body, nil
	return nil
}

// owns reports whether a session of that head is of this manager.
func (m *Manager) owns(h head, rec Record) bool {
	return h.name == m.opts.Name && (rec.User == "" || strings.HasPrefix(rec.User, m.prefix))
}

// undecodable gives the request an empty session, or fails it.
func (s *Session) undecodable(key Key, err error) error {
	s.happened(Event{Kind: EventUndecodable, Key: key, Err: err})
	if s.m.opts.FailUndecodable || s.r == nil {
		return fmt.Errorf("session: %s: %w", key, err)
	}
	s.warn("session: undecodable, the request gets an empty one", key, err)
	s.reset()
	return nil
}

// decode makes the values readable.
func (s *Session) decode() error {
	if s.values != nil {
		return nil
	}
	if s.rec.Key.IsZero() {
		s.values = map[string]json.RawMessage{}
		return nil
	}
	values, err := s.m.decode(s.rec, s.body)
	if err != nil {
		if err := s.undecodable(s.rec.Key, err); err != nil {
			s.state.Fail(err)
			return err
		}
		values = map[string]json.RawMessage{}
	}
	s.values = values
	return nil
}

// close ends the request. It saves what was changed after the answer had begun.
func (s *Session) close() {
	_ = s.do(s.ctx, func() error { // it is always nil
		if !s.state.Close() || !s.delta.differs(s.values) || s.rec.Key.IsZero() {
			return nil
		}
		if err := s.save(s.lasting()); err != nil && !s.dead() {
			s.happened(Event{Kind: EventSaveFailed, Err: err})
			s.m.log.Tell(zap.ErrorLevel, "session: what changed after the answer had begun is not saved", kindOf(err), s.r,
				zap.Stringer("session", s.rec.Key), zap.Error(err))
		}
		return nil
	})
}

// user returns the session's user, without the manager's prefix.
func (s *Session) user() string {
	stored := s.rec.User
	if s.next != nil {
		stored = s.next.user
	}
	if stored == "" {
		return ""
	}
	return stored[len(s.m.prefix):]
}

// User returns whose session it is, after Login whose it becomes; empty where
// nobody has logged in.
func (s *Session) User() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user()
}

// Key returns the session's key, for logs: it is no secret. It is zero while
// the store has no such session. After Login and Renew it stays that of before
// until the session is saved.
func (s *Session) Key() Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.Key
}

// Degraded reports whether the request is served without its session, as the
// store could not be reached (see Options.AnonymousOnOutage).
func (s *Session) Degraded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Is(reqsession.Degraded)
}

// Info returns what is known about the session, as it is stored. It is zero
// while the store has no such session.
func (s *Session) Info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rec.Key.IsZero() {
		return Info{}
	}
	info := s.m.info(s.rec, s.head)
	info.Current = true
	return info
}

// AuthenticatedAt returns when the user last logged in, by the store's clock
// and to the second; zero where nobody has. Before what matters, ask users
// whose login is long ago to log in again.
func (s *Session) AuthenticatedAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		return s.next.head.loggedInAt()
	}
	return s.head.loggedInAt()
}
