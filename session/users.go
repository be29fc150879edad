package session

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Info is what users may see of their sessions, and administrators of all.
type Info struct {
	// Handle names the session to Revoke. It stays the same when the session's ID
	// is renewed, until the next login, and is no secret.
	Handle string `json:"handle"`
	// Key is Key.String of the session's key, which stands in logs.
	Key  string `json:"key"`
	User string `json:"user,omitempty"`
	// Created is when the user logged in, or when a session without a user
	// began.
	Created time.Time `json:"created"`
	// LastSeen is when the session was last used, as far as touches tell: up to
	// Options.TouchInterval before that. It is zero for sessions without an
	// idle timeout.
	LastSeen time.Time `json:"lastSeen,omitzero"`
	// Expires is when it ends if it is not used, Deadline when it ends at the
	// latest.
	Expires  time.Time `json:"expires"`
	Deadline time.Time `json:"deadline"`
	// Label is the label of its login; Address is the network it came from and
	// Agent its User-Agent, if the options keep them.
	Label   string `json:"label,omitempty"`
	Address string `json:"address,omitempty"`
	Agent   string `json:"agent,omitempty"`
	// Current says that it is the session of the request that asks.
	Current bool `json:"current"`
}

// Export is a session with its values, which must not be modified. They are part
// of its JSON, for the user. Otherwise it prints and logs without them.
type Export struct {
	Info
	Values map[string]json.RawMessage `json:"values"`
}

var errNoUsers = fmt.Errorf("session: the store has no index of users: %w", errors.ErrUnsupported)

// Sessions lists the live sessions of a user, those created first first. The
// one of the request that ctx belongs to is marked. It reads them page by page, as
// many as the loop asks for, and holds nothing in between. So one that gets another
// ID or begins meanwhile may be missed. It ends after an error, which comes with the
// zero Info. That is errors.ErrUnsupported if the store is no UserIndex, and
// ErrInvalid for what can be no user.
func (m *Manager) Sessions(ctx context.Context, user string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		current := m.currentHandle(ctx)
		for rec, err := range m.ofUser(ctx, user) {
			if err != nil {
				yield(Info{}, err)
				return
			}
			h, _, err := split(rec.Data)
			if err != nil {
				h = head{} // the user may still end it
			}
			info := m.info(rec, h)
			info.Current = info.Handle == current
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Export lists the live sessions of a user with their values, for a user who
// asks what is kept. It is else like Sessions. One that cannot be decoded is
// an ErrUndecodable with the zero Export, after which it goes on.
func (m *Manager) Export(ctx context.Context, user string) iter.Seq2[Export, error] {
	return func(yield func(Export, error) bool) {
		current := m.currentHandle(ctx)
		for rec, err := range m.ofUser(ctx, user) {
			if err != nil {
				yield(Export{}, err)
				return
			}
			one, err := m.export(rec)
			one.Current = err == nil && one.Handle == current
			if !yield(one, err) {
				return
			}
		}
	}
}

// All lists the live sessions of this manager with their values. It ends after
// an error, which comes with the zero Export; one that cannot be decoded is
// such an error, after which it goes on. It is errors.ErrUnsupported if the
// store is no Lister.
func (m *Manager) All(ctx context.Context) iter.Seq2[Export, error] {
	return func(yield func(Export, error) bool) {
		if m.lister == nil {
			yield(Export{}, fmt.Errorf("session: the store cannot list: %w", errors.ErrUnsupported))
			return
		}
		for rec, err := range m.lister.All(ctx) {
			if err != nil {
				yield(Export{}, err)
				return
			}
			if h, _, err := split(rec.Data); err == nil && h.name != m.opts.Name {
				continue
			}
			if !yield(m.export(rec)) {
				return
			}
		}
	}
}

// Revoke ends a session of a user by Info.Handle. The error is ErrNotFound if the
// user has no such session, even if another user has.
func (m *Manager) Revoke(ctx context.Context, user, handle string) error {
	rec, err := m.byHandle(ctx, user, handle)
	if err != nil {
		return fmt.Errorf("session: revoke: %w", err)
	}
	ended, err := m.store.Destroy(ctx, rec.Key)
	switch {
	case err != nil:
		return err
	case ended == 0:
		return fmt.Errorf("session: revoke: %w", ErrNotFound)
	}
	m.emit(ctx, nil, Event{Kind: EventDestroyed, Key: rec.Key, User: user, Reason: ReasonRevoked, Count: ended})
	m.endCurrent(ctx, func(s *Session) bool { return handleOf(s.rec, s.head.described()) == handle })
	return nil
}

// byHandle returns the session of a user that has that handle.
func (m *Manager) byHandle(ctx context.Context, user, handle string) (Record, error) {
	for rec, err := range m.ofUser(ctx, user) {
		if err != nil {
			return Record{}, err
		}
		if handleIn(rec) == handle {
			return rec, nil
		}
	}
	return Record{}, ErrNotFound
}

// RevokeOthers ends all sessions of the request's user but the request's own,
// and returns how many. It is ErrNoUser if nobody is logged in.
func (m *Manager) RevokeOthers(ctx context.Context) (int64, error) {
	s, err := m.Session(ctx)
	if err != nil {
		return 0, err
	}
	user, key := s.User(), s.Key()
	if user == "" {
		return 0, fmt.Errorf("%w: nobody is logged in", ErrNoUser)
	}
	return m.revoke(ctx, user, key)
}

// RevokeUser ends all sessions of a user, and returns how many. If the
// request's session is one of them, the browser is told to forget its cookie.
// With a session ends all that the store keeps of it, so this erases a user
// too. Sessions that have expired already are the exception: their rows go with
// the next pruning.
func (m *Manager) RevokeUser(ctx context.Context, user string) (int64, error) {
	ended, err := m.revoke(ctx, user)
	if err == nil {
		m.endCurrent(ctx, func(s *Session) bool {
			if s.next != nil && s.next.user == m.stored(user) {
				s.next = nil
			}
			return s.rec.User == m.stored(user)
		})
	}
	return ended, err
}

func (m *Manager) revoke(ctx context.Context, user string, except ...Key) (int64, error) {
	if m.users == nil {
		return 0, errNoUsers
	}
	if err := checkLogin(user, ""); err != nil {
		return 0, err
	}
	ended, err := m.users.DestroyUser(ctx, m.stored(user), except...)
	if err == nil && ended > 0 {
		m.emit(ctx, nil, Event{Kind: EventDestroyed, User: user, Reason: ReasonRevoked, Count: ended})
	}
	return ended, err
}

// endCurrent tells the request's session that it has ended, if concerned says
// that it has.
func (m *Manager) endCurrent(ctx context.Context, concerned func(*Session) bool) {
	s := m.current(ctx)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !concerned(s) || s.rec.Key.IsZero() {
		return
	}
	next, values := s.next, s.values
	s.forget()
	if next != nil && next.reason == ReasonLogin { // that is of another session
		s.next, s.values = next, values
	}
}

// currentHandle returns the Info.Handle of the request's session, if that has been
// loaded.
func (m *Manager) currentHandle(ctx context.Context) string {
	if s := m.current(ctx); s != nil {
		return s.Info().Handle
	}
	return ""
}

// perPage is how many sessions of a user are in memory at a time.
const perPage = 500

// ofUser lists the live sessions of a user. It ends after an error.
func (m *Manager) ofUser(ctx context.Context, user string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		err := checkLogin(user, "")
		if m.users == nil {
			err = errNoUsers
		}
		var last Record
		for more := err == nil; more; {
			var page []Record
			if page, err = m.users.ListUser(ctx, m.stored(user), last, perPage); err != nil {
				break
			}
			for _, rec := range page {
				if !yield(rec, nil) {
					return
				}
				last = rec
			}
			more = len(page) == perPage
		}
		if err != nil {
			yield(Record{}, err)
		}
	}
}

func (m *Manager) info(rec Record, h head) Info {
	a := h.described()
	info := Info{
		Handle: handleOf(rec, a), Key: rec.Key.String(), Created: rec.Created, Expires: rec.Expires, Deadline: rec.Deadline,
		Label: a.Label, Address: a.Address, Agent: a.Agent,
	}
	if len(rec.User) > len(m.prefix) {
		info.User = rec.User[len(m.prefix):]
	}
	if idle := m.policyOf(h).IdleTimeout; idle > 0 {
		info.LastSeen = rec.Expires.Add(-idle)
	}
	return info
}

// handleOf is a session's Info.Handle. It is the key where the data cannot be read, so
// that the user may end that session too.
func handleOf(rec Record, a about) string { return cmp.Or(a.Handle, rec.Key.String()) }

func handleIn(rec Record) string {
	h, _, _ := split(rec.Data) // it is zero with an error
	return handleOf(rec, h.described())
}

func (m *Manager) export(rec Record) (Export, error) {
	h, body, err := split(rec.Data)
	if err != nil {
		return Export{}, fmt.Errorf("session: %s: %w", rec.Key, err)
	}
	values, err := m.decode(rec, body)
	if err != nil {
		return Export{}, fmt.Errorf("session: %s: %w", rec.Key, err)
	}
	return Export{Info: m.info(rec, h), Values: values}, nil
}
