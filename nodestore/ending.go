package nodestore

import (
	"context"
	"fmt"

	"github.com/sojourn-go/sojourn/internal/reqsession"
	"github.com/sojourn-go/sojourn/session"
)

// Regenerate ends the session and begins an empty one, with a new ID, as
// req.session.regenerate does. Call it when a user logs in, and then set the
// user. Nobody who knew the old ID is logged in with the user (OWASP Session
// Management Cheat Sheet, "Renew the Session ID After Any Privilege Level
// Change"). The old row is gone when Regenerate returns, the new one is stored
// with the answer. After Destroy it begins a session too.
//
// It is ErrTooLate of package session if the answer has begun.
func (s *Session) Regenerate(ctx context.Context) error {
	return s.do(ctx, func() error {
		if s.state.Failure() != nil || s.state.Closed() {
			return s.usable()
		}
		if s.state.Sealed() {
			return fmt.Errorf("nodestore: %w: a new ID needs a cookie", session.ErrTooLate)
		}
		if err := s.destroy(ctx, session.ReasonLogin); err != nil {
			return err
		}
		if err := s.begin(); err != nil {
			return err
		}
		s.end = atEnd{regenerated: true}
		s.state.Begin()
		return nil
	})
}

// Renew gives the session a new ID, with all that it holds. It is Regenerate
// for applications that keep what an anonymous visitor has put into a basket.
// The old ID is dead and the changes are saved when it returns. A session that
// is not stored yet has no ID to renew, which is no error.
//
// It is ErrNotFound of package session if the session has ended meanwhile, and
// ErrTooLate if the answer has begun.
func (s *Session) Renew(ctx context.Context) error {
	return s.do(ctx, func() error {
		if err := s.writable(); err != nil {
			return err
		}
		if s.state.Sealed() {
			return fmt.Errorf("nodestore: %w: a new ID needs a cookie", session.ErrTooLate)
		}
		if s.entry.ID == "" {
			return nil
		}
		if err := s.sendable(); err != nil {
			return err
		}
		id, err := s.m.newID(s.r)
		if err != nil {
			return err
		}
		for attempt := 1; ; attempt++ {
			data, expires, err := s.document()
			if err != nil {
				return err
			}
			old := s.m.key(s.entry.ID)
			entry, err := s.m.store.Renew(ctx, s.entry, id, data, expires)
			if err == nil {
				s.stored(entry)
				s.happened(session.Event{Kind: session.EventRenewed, Old: old})
				return s.give()
			}
			if err := s.again(ctx, err, attempt); err != nil {
				return err
			}
		}
	})
}

// Destroy ends the session, as req.session.destroy does: its row is gone when
// Destroy returns. The cookie stays with the browser, unless the option
// ClearCookie is set or it is one of koa-generic-session; it opens nothing any
// more. It is no error if there is no row.
func (s *Session) Destroy(ctx context.Context) error {
	return s.do(ctx, func() error {
		if s.state.Failure() != nil || s.state.Closed() {
			return s.usable()
		}
		return s.destroy(ctx, session.ReasonLogout)
	})
}

// destroy ends the row of a session too that a request has found dead: a Node
// request may have written it again.
func (s *Session) destroy(ctx context.Context, why session.Reason) error {
	if s.entry.ID != "" {
		ended, err := s.m.store.Destroy(ctx, s.entry.ID)
		if err != nil {
			return err
		}
		if ended > 0 {
			s.happened(session.Event{Kind: session.EventDestroyed, Reason: why})
		}
		s.lines = nil // no ID of it is to be given to the browser
		if s.m.clearEnded && !s.state.Sealed() {
			s.setLines(s.m.rules.clear(s.cookie(), s.m.https(s.r)))
		}
		s.entry = Entry{}
	}
	s.state.Become(reqsession.Gone)
	return s.forget()
}

// Unset gives the session up for this request, as req.session = null does: its
// changes are dropped, and its row and cookie stay as they are. With the option
// DestroyUnset, or in koa-generic-session, the session is destroyed with the
// answer.
func (s *Session) Unset() error {
	return s.do(s.r.Context(), func() error {
		if err := s.usable(); err != nil {
			return err
		}
		s.state.Become(reqsession.Unset)
		return s.forget()
	})
}
