package session

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// Open returns the session of a client that no Handler serves, as in an interceptor
// of gRPC. token is what the client was given by Session.Token, or the value of a
// browser's cookie. With the empty token it is an empty session, which Login, or a
// value and a Save, begin. The error is ErrNotFound if there is no live session of
// that token, ErrUndecodable if the session cannot be decoded, and else the store's.
//
// The session is used as in a handler, and may be handed on by NewContext. Nothing
// runs for it. When the call is answered, End saves it, and Token tells what to send
// the client. A session that is not ended leaves nothing behind but what Save has
// saved. ctx counts for as long as the session is used: once it has ended, Login and
// Renew fail.
func (m *Manager) Open(ctx context.Context, token string) (*Session, error) {
	s := m.outside(ctx)
	if token == "" {
		s.state.Begin()
		return s, nil
	}
	value, version := parseToken(token)
	key, ok := m.cookie.keyOf(value)
	if !ok {
		m.emit(ctx, nil, Event{Kind: EventInvalidID})
		return nil, fmt.Errorf("session: open: the token is none: %w", ErrNotFound)
	}
	s.token = value
	return s.opened(ctx, func() error {
		rec, err := m.lookUp(ctx, key, m.since(version))
		if errors.Is(err, ErrNotFound) {
			s.miss(key, err)
		}
		if err != nil {
			return err
		}
		return s.adopt(rec)
	})
}

// OpenKey returns a session by its Session.Key, for work that goes on without its
// client: in a queue, or on a websocket whose handler has returned. It reads the
// database, past the node's memory. The error is ErrNotFound if the session has
// ended, or has been renewed and its grace period is over.
//
// The session is used as in a handler whose answer has begun: its values can be read
// and changed, and Save, Take and End save them. As the client has no part in that,
// it postpones no idle timeout; Touch does, if there was a sign of the user. What
// would give the client another ID, as Login and Renew, is ErrTooLate. When a
// request of the same session has been given to ctx, it sees what is saved.
func (m *Manager) OpenKey(ctx context.Context, key Key) (*Session, error) {
	s := m.quiet(ctx)
	return s.opened(ctx, func() error {
		rec, err := m.fresh(ctx, key)
		if err != nil {
			return err
		}
		return s.adopt(rec)
	})
}

// OpenHandle is OpenKey for the session of a user that has that Info.Handle, which
// no renewal changes. The error is ErrNotFound if the user has no such session, and
// errors.ErrUnsupported if the store is no UserIndex.
func (m *Manager) OpenHandle(ctx context.Context, user, handle string) (*Session, error) {
	rec, err := m.byHandle(ctx, user, handle)
	if err != nil {
		return nil, fmt.Errorf("session: open: %w", err)
	}
	return m.openRecord(ctx, rec)
}

// openRecord is OpenKey for a session that has just been read.
func (m *Manager) openRecord(ctx context.Context, rec Record) (*Session, error) {
	s := m.quiet(ctx)
	return s.opened(ctx, func() error { return s.adopt(rec) })
}

func (m *Manager) outside(ctx context.Context) *Session {
	s := &Session{visit: &visit{m: m, ctx: ctx}}
	s.reset()
	return s
}

// quiet is for a session that others than its client use.
func (m *Manager) quiet(ctx context.Context) *Session {
	s := m.outside(ctx)
	s.quiet = true
	s.state.Seal()
	return s
}

// opened reads the session.
func (s *Session) opened(ctx context.Context, read func() error) (*Session, error) {
	err := s.do(ctx, func() error {
		return s.state.Read(func() error {
			if err := read(); err != nil {
				return err
			}
			if s.rec.Key.IsZero() {
				return fmt.Errorf("%w: it is another manager's", ErrNotFound)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("session: open: %w", err)
	}
	return s, nil
}

// NewContext returns a context in which FromContext and Manager.Session return s, a
// session that Open has returned.
func NewContext(ctx context.Context, s *Session) context.Context {
	return reqsession.With(ctx, s.m, part{s})
}

// End ends the use of a session that Open, OpenKey or OpenHandle has returned; the
// session itself lives on. It does what the end of a request does: it saves what has
// changed, or postpones the idle timeout, and gives the client another ID if it is
// time. After that, all that would read or change the session fails with ErrTooLate,
// but another End, which does nothing.
//
// It fails as Save, and with what a failed Save had left to save. Then that is not
// saved, and the use is over all the same. It is ErrInvalid for a session that a
// Handler has given, as that ends with its request.
func (s *Session) End(ctx context.Context) error {
	return s.do(ctx, func() error {
		switch {
		case s.r != nil:
			return fmt.Errorf("%w: the use of a request's session ends with the request", ErrInvalid)
		case s.state.Closed():
			return nil
		}
		defer s.state.Close()
		if err := s.state.Failure(); err != nil {
			return err
		}
		if s.dead() {
			return errEnded
		}
		if err := s.state.Refusal(); err != nil {
			return fmt.Errorf("session: %w", err)
		}
		return s.store(reqsession.Exactly(ctx), reqsession.ReachOf(s.ctx, reqsession.Sent))
	})
}

// Touch postpones the idle timeout, as a request does when it ends, and as seldom:
// see Options.TouchInterval. It is for connections that last, whose use the Manager
// does not see. It is ErrNotFound if the session was found to have ended, which it
// need not find out each time. A session that is not stored yet, or has no idle
// timeout, is left alone.
func (s *Session) Touch(ctx context.Context) error {
	return s.do(ctx, func() error {
		if err := s.usable(); err != nil {
			return err
		}
		switch {
		case s.dead():
			return errEnded
		case s.rec.Key.IsZero():
			return nil
		}
		err := s.touch()
		if errors.Is(err, ErrNotFound) {
			return s.died(err)
		}
		return err
	})
}

// tokenSeparator stands before the version in a token. No cookie has it.
const tokenSeparator = "~"

// Token returns what the client of a session that Open has returned is to be told,
// and sends with its next call. It is a secret. It is empty while there is no stored
// session, and once it has ended; for the sessions of a Handler, whose cookie
// tells; and for those of OpenKey and OpenHandle.
//
// A login, another ID and each save change it. A client may go on with an earlier one of
// the same ID, but may then for a moment be shown what was before the save, by
// another node.
func (s *Session) Token() Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	token := s.token
	if s.dead() {
		token = ""
	}
	if token != "" && s.saved && s.m.versions != nil && s.m.versions.Lag() > 0 {
		token += tokenSeparator + strconv.FormatInt(s.rec.Version, versionBase)
	}
	return Secrets(token)[0]
}

// SetCookie returns the line of the header field Set-Cookie for a client of Open that
// is a browser, as behind a gateway; empty if its cookie stays as it is. It is a
// secret, and goes with Cache-Control: no-store.
func (s *Session) SetCookie() Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.r != nil {
		return Secret{}
	}
	return Secrets(s.line)[0]
}

// parseToken returns the value of the cookie, and the version that the client was
// told of; 0 is none.
func parseToken(token string) (value string, version int64) {
	value, text, _ := strings.Cut(token, tokenSeparator)
	version, err := strconv.ParseInt(text, versionBase, 64)
	if err != nil {
		version = 0
	}
	return value, version
}

// follow has the session of the request that ctx belongs to see what was saved of
// it elsewhere. What the request itself has changed stays to be saved.
func (m *Manager) follow(ctx context.Context, saved Record) {
	s := m.current(ctx)
	if s == nil {
		return
	}
	_ = s.do(ctx, func() error {
		if !s.state.Is(reqsession.Usable) || s.rec.Key != saved.Key || s.rec.Version >= saved.Version {
			return nil
		}
		return s.rebase(saved) // else the request saves what it knows, and then learns of it
	})
}
