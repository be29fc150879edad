package nodestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/sojourn-go/sojourn/internal/reqsession"
	"github.com/sojourn-go/sojourn/session"
)

// Regenerate ends the session and begins an empty one, with a new ID, as
// req.session.regenerate does. Call it when a user logs in, and then set the
// user. Nobody who knew the old ID is logged in with the user (OWASP Session
// Management Cheat Sheet, "Renew the Session ID After Any Privilege Level
// Change"). After Destroy it begins a session too.
//
// The new row is stored with the answer, and then the old one ends, since what the
// browser has may only end where it is given something better: see
// Express.Handler. Until then nothing has happened. Save does it now.
//
// It is ErrTooLate of package session if the answer has begun or the request's
// context has ended.
func (s *Session) Regenerate(ctx context.Context) error {
	return s.do(ctx, func() error {
		if err := s.endable(); err != nil {
			return err
		}
		if err := s.replaceable(); err != nil {
			return err
		}
		if s.entry.ID != "" {
			s.old = s.entry
		}
		if err := s.begin(); err != nil {
			return err
		}
		s.lines = nil // no ID of the old one is to be given to the browser
		s.end = atEnd{regenerated: true}
		s.recover()
		s.state.Begin()
		return nil
	})
}

// Renew gives the session a new ID, with all that it holds. It is Regenerate
// for applications that keep what an anonymous visitor has put into a basket. It
// happens with the answer, and Save does it now: then the old ID is dead and the
// changes are saved. A session that is not stored yet has no ID to renew, which is
// no error.
//
// It is ErrNotFound of package session if the session was found to have ended
// meanwhile, and ErrTooLate as Regenerate.
func (s *Session) Renew(ctx context.Context) error {
	return s.do(ctx, func() error {
		if err := s.writable(); err != nil {
			return err
		}
		if err := s.replaceable(); err != nil {
			return err
		}
		if s.entry.ID == "" {
			return nil
		}
		if err := s.sendable(); err != nil {
			return err
		}
		id, err := s.generate()
		if err != nil {
			return err
		}
		s.newID = id
		return nil
	})
}

// replaces reports whether the answer is to bring another ID for a session that
// the browser has.
func (s *Session) replaces() bool { return s.newID != "" || s.old.ID != "" }

// replaceable is an error if the browser can no longer be told of another ID.
func (s *Session) replaceable() error {
	switch {
	case s.state.Sealed():
		return fmt.Errorf("nodestore: %w: a new ID needs a cookie", session.ErrTooLate)
	case reqsession.ReachOf(s.r.Context(), reqsession.Later) == reqsession.Nobody:
		return s.tooLate(reqsession.Nobody)
	}
	return nil
}

// tooLate is the error of what needs a cookie that cannot reach the browser.
func (s *Session) tooLate(reach reqsession.Reach) error {
	if reach == reqsession.Nobody {
		return fmt.Errorf("nodestore: %w: the request's context has ended before: %w", session.ErrTooLate, context.Cause(s.r.Context()))
	}
	return fmt.Errorf("nodestore: %w: its connection is hijacked, and a new ID needs a cookie. Call Save before and send the header, or call WriteHeader first", session.ErrTooLate)
}

// renew saves the session under its new ID.
func (s *Session) renew(within reqsession.Limits) error {
	ctx, cancel := within()
	defer cancel()
	pass, err := s.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer pass(nil) // what others wait for has another ID then
	for attempt := 1; ; attempt++ {
		if err := s.sendable(); err != nil {
			return err
		}
		data, expires, err := s.document()
		if err != nil {
			return err
		}
		old := s.m.key(s.entry.ID)
		entry, err := s.m.store.Renew(ctx, s.entry, s.newID, data, expires)
		if err == nil {
			s.newID = ""
			s.stored(entry)
			s.happened(session.Event{Kind: session.EventRenewed, Old: old})
			return s.give()
		}
		if err := s.again(ctx, err, attempt); err != nil {
			return err
		}
	}
}

// endOld ends what Regenerate has left, now that the new row is stored. If that
// fails, the new row goes, so that the browser's is still the only one.
func (s *Session) endOld(ctx context.Context) error {
	if s.old.ID == "" {
		return nil
	}
	ended, err := s.m.store.Destroy(ctx, s.old.ID)
	if err != nil {
		if _, undo := s.m.store.Destroy(ctx, s.entry.ID); undo != nil {
			err = errors.Join(err, undo)
		}
		s.entry = Entry{}
		return err
	}
	if ended > 0 {
		s.happened(session.Event{Kind: session.EventDestroyed, Key: s.m.key(s.old.ID), Reason: session.ReasonLogin})
	}
	s.old = Entry{}
	return nil
}

// Destroy ends the session, as req.session.destroy does: its row is gone when
// Destroy returns. The cookie stays with the browser, unless the option
// ClearCookie is set or it is one of koa-generic-session; it opens nothing any
// more. It is no error if there is no row.
func (s *Session) Destroy(ctx context.Context) error {
	return s.do(ctx, func() error {
		if err := s.endable(); err != nil {
			return err
		}
		return s.destroy(ctx, session.ReasonLogout)
	})
}

// endable says whether the session can still be ended, which one can be too that
// cannot be read, and one that has ended already.
func (s *Session) endable() error {
	if s.state.Closed() || s.state.Failure() != nil && !s.unreadable {
		return s.usable()
	}
	return nil
}

// recover lets the request go on without the session that it could not read.
func (s *Session) recover() {
	if s.unreadable {
		s.unreadable = false
		s.state.Recover()
	}
}

// destroy ends the row of a session too that a request has found dead: a Node
// request may have written it again.
func (s *Session) destroy(ctx context.Context, why session.Reason) error {
	if s.entry.ID == "" {
		s.entry = s.old
	}
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
			s.setLines(s.clear())
		}
		s.entry, s.old = Entry{}, Entry{}
	}
	s.newID = ""
	s.recover()
	s.state.Become(reqsession.Gone)
	return s.forget()
}

// clear takes the cookie from the browser. One that cannot be sent cannot have
// been: then it is that of the options.
func (s *Session) clear() []cookieLine {
	c := s.cookie()
	if c.checkLine() != nil {
		c = s.m.opts.cookie
	}
	return s.m.rules.clear(c, s.m.https(s.r))
}

// Unset gives the session up for this request, as req.session = null does: its
// changes are dropped, and its row and cookie stay as they are. With the option
// DestroyUnset, or in koa-generic-session, the session is destroyed with the
// answer.
func (s *Session) Unset() error {
	return s.do(s.r.Context(), func() error {
		if err := s.usable(); err != nil && (s.state.Closed() || !s.unreadable) {
			return err
		}
		s.recover()
		s.state.Become(reqsession.Unset)
		return s.forget()
	})
}
