package nodestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/reqsession"
	"github.com/sojourn-go/sojourn/session"
)

// Save saves now what would be saved before the first byte, and the cookie
// object too: for handlers that go on for long or want to know. It is
// ErrNotFound of package session if the session has ended while the request
// was under way: the changes are dropped. When it fails, the handler answers,
// and only another Save tries again.
func (s *Session) Save(ctx context.Context) error {
	return s.do(ctx, func() error {
		if err := s.writable(); err != nil {
			return err
		}
		err := s.write(reqsession.Exactly(ctx), reqsession.ReachOf(s.r.Context(), reqsession.Later))
		s.state.Saved(err)
		return err
	})
}

// Reload drops what the request has changed and reads the session again, as
// req.session.reload does. It is ErrNotFound of package session if there is no row;
// then the session stays as it was. After a Save that failed the session can be
// changed again.
func (s *Session) Reload(ctx context.Context) error {
	return s.do(ctx, func() error {
		if err := s.usable(); err != nil {
			return err
		}
		if s.entry.ID == "" {
			return fmt.Errorf("nodestore: %w: it is not stored yet", session.ErrNotFound)
		}
		entry, err := s.m.store.Get(ctx, s.entry.ID)
		if err == nil {
			err = s.adopt(entry)
		}
		if err == nil {
			s.changes, s.end.extended = nil, false
			s.state.Saved(nil)
		}
		return err
	})
}

// Touch extends the session as if it were stored now, and sends the browser its
// cookie again if that keeps it for a time. It does what resetMaxAge does, and
// what req.session.touch is often hoped to do. Without Touch, express-session's
// sessions are extended by each request in the store only, and those of
// koa-generic-session not at all. Touch takes effect with the answer. It does
// not store a session that is not stored yet. It fails as Set.
func (s *Session) Touch() error {
	return s.do(s.r.Context(), func() error {
		if err := s.usable(); err != nil {
			return err
		}
		s.end.extended = true
		return nil
	})
}

// write stores the session: a new one, under another ID, or as it is.
func (s *Session) write(within reqsession.Limits, reach reqsession.Reach) error {
	switch {
	case s.replaces() && reach > reqsession.Later, s.entry.ID == "" && reach == reqsession.Nobody:
		return s.tooLate(reach)
	case s.entry.ID == "":
		return s.create(within)
	case s.newID != "":
		return s.renew(within)
	}
	return s.save(within)
}

// writeRest does what is left to do before the answer.
func (s *Session) writeRest(reach reqsession.Reach) error {
	switch {
	case s.state.Is(reqsession.Unset) && (s.m.endUnset && s.entry.ID != "" || s.old.ID != ""):
		return s.endNow(session.ReasonLogout)
	case !s.state.Is(reqsession.Usable):
		return nil
	}
	plan := s.m.rules.plan(s.atEnd())
	switch {
	case s.replaces() && reach > reqsession.Later:
		return s.tooLate(reach)
	case s.old.ID != "" && !plan.write: // nothing follows it
		return s.endNow(session.ReasonLogin)
	case s.entry.ID == "":
		if !plan.write || reach > reqsession.Later && !s.dirty() {
			return nil
		}
		return s.write(s.lasting(), reach)
	case s.newID != "":
		return s.write(s.lasting(), reach)
	}
	if plan.cookie {
		if err := s.sendable(); err != nil { // before anything is written
			return err
		}
	}
	var err error
	switch {
	case plan.write:
		err = s.save(s.lasting())
	case plan.touch:
		err = s.touch()
	}
	if err != nil || s.dead() || !plan.cookie {
		return err
	}
	return s.give()
}

func (s *Session) endNow(why session.Reason) error {
	ctx, cancel := s.lasting()()
	defer cancel()
	return s.destroy(ctx, why)
}

// sendable fails where the browser could not be given the cookie. The handler may
// drop the error, so the log is told.
func (s *Session) sendable() error {
	_, err := s.m.rules.set(s.entry.ID, s.m.cookieOf(s.doc), s.m.now(), s.m.https(s.r))
	if domain := s.cookie().Domain; err == nil && !reqsession.InDomain(s.r, domain) {
		err = fmt.Errorf("nodestore: %w: its Domain is %q, and the request is for host %q. Behind a proxy that sets another host, have it set X-Forwarded-Host",
			session.ErrMisplaced, domain, s.r.Host)
	}
	if errors.Is(err, session.ErrInsecure) || errors.Is(err, session.ErrMisplaced) {
		s.m.log.Tell(zap.ErrorLevel, "nodestore: the browser would not take the cookie", kindOf(err), s.r, zap.Error(err))
	}
	return err
}

// give has the browser sent the cookie.
func (s *Session) give() error {
	lines, err := s.m.rules.set(s.entry.ID, s.m.cookieOf(s.doc), s.m.now(), s.m.https(s.r))
	if err == nil && lines == nil {
		s.m.log.Tell(zap.WarnLevel, "nodestore: the cookie is secure and not sent over plain HTTP; behind a proxy that ends TLS set Options.TrustProxy", "", s.r)
	}
	s.setLines(lines)
	return err
}

func (s *Session) atEnd() atEnd {
	now := s.end
	now.isNew, now.dirty = s.entry.ID == "", s.dirty()
	now.changed = now.changed || now.dirty
	now.halfGone = s.m.flat && halfGone(s.doc, s.m.now())
	now.ends = !nullish(s.m.cookieOf(s.doc).Raw("originalMaxAge"))
	return now
}

// dirty reports whether there is something that is not stored.
func (s *Session) dirty() bool { return !s.doc.same(s.base, s.m.apart) }

// document is what is to be stored, and until when.
func (s *Session) document() (data []byte, expires time.Time, err error) {
	if data, err = s.toStore(s.doc); err != nil {
		return nil, time.Time{}, err
	}
	expires, err = s.expiry(data)
	return data, expires, err
}

// expiry is where a document ends: after the default lifetime, if what its cookie
// tells is no time.
func (s *Session) expiry(data []byte) (time.Time, error) {
	expires, err := s.m.store.Expiry(data)
	if errors.Is(err, session.ErrInvalid) {
		return s.m.store.Expiry([]byte("{}"))
	}
	return expires, err
}

// toStore is a document as it is stored now, with its cookie in use.
func (s *Session) toStore(doc *Document) ([]byte, error) {
	cookie := s.m.cookieOf(doc)
	s.m.rules.use(cookie, s.m.now())
	if s.m.flat {
		putFlat(doc, cookie)
	} else if doc.find(cookieKey) >= 0 {
		if err := doc.put(cookie.Bytes(), []string{cookieKey}); err != nil {
			return nil, err
		}
	}
	return doc.Bytes(), nil
}

// generate makes an ID, by the application's function if it has one.
func (s *Session) generate() (id string, err error) {
	err = s.inside(func() (err error) {
		id, err = s.m.newID(s.r)
		return err
	})
	return id, err
}

func (s *Session) create(within reqsession.Limits) error {
	if s.state.Sealed() {
		return fmt.Errorf("nodestore: %w: a new session needs a cookie", session.ErrTooLate)
	}
	if err := s.sendable(); err != nil {
		return err
	}
	id, err := s.generate()
	if err != nil {
		return err
	}
	data, expires, err := s.document()
	if err != nil {
		return err
	}
	ctx, cancel := within()
	defer cancel()
	entry, err := s.m.store.Create(ctx, id, data, expires)
	if err != nil {
		return err
	}
	s.stored(entry)
	s.happened(session.Event{Kind: session.EventCreated})
	if err := s.endOld(ctx); err != nil {
		return err
	}
	return s.give()
}

// stored takes over what was written.
func (s *Session) stored(entry Entry) {
	s.end.changed = s.end.changed || s.dirty()
	s.end.saved = true
	s.entry, s.base, s.changes = entry, s.doc.clone(), nil
	s.state.Saved(nil)
}

// save writes the changes. If others have saved meanwhile, it makes them to
// what those have saved.
func (s *Session) save(within reqsession.Limits) error {
	ctx, cancel := within()
	defer cancel()
	pass, err := s.takeTurn(ctx)
	if err != nil {
		return err
	}
	var written *Entry
	defer func() { pass(written) }()
	for attempt := 1; ; attempt++ {
		data, expires, err := s.document()
		if err != nil {
			return err
		}
		entry, err := s.m.store.Save(ctx, s.entry, data, expires)
		if err == nil {
			s.stored(entry)
			written = &entry
			return nil
		}
		if err := s.again(ctx, err, attempt); err != nil {
			return err
		}
	}
}

// takeTurn waits until no other request of this node writes the session, and makes
// the changes to what the one before has written. The caller calls pass with what
// it has written itself, nil if nothing.
func (s *Session) takeTurn(ctx context.Context) (pass func(*Entry), err error) {
	before, done, err := s.m.turns.Take(ctx, s.entry.ID)
	if err != nil {
		return nil, err
	}
	defer func() { // also when a change panics
		if pass == nil {
			done(before)
		}
	}()
	if before != nil && !bytes.Equal(before.Data, s.entry.Data) {
		if err := s.rebase(func() (Entry, error) { return *before, nil }); err != nil {
			return nil, err
		}
	}
	return done, nil
}

// again prepares another attempt at a write that failed, where there is a point
// in one.
func (s *Session) again(ctx context.Context, err error, attempt int) error {
	switch {
	case errors.Is(err, session.ErrNotFound):
		return s.died(err)
	case !errors.Is(err, session.ErrConflict):
		return err
	}
	if err := reqsession.Collided(ctx, err, attempt); err != nil {
		return err
	}
	return s.refetch(ctx)
}

// refetch reads the session again and makes the changes to it.
func (s *Session) refetch(ctx context.Context) error {
	id := s.entry.ID
	return s.rebase(func() (Entry, error) { return s.m.store.Get(ctx, id) })
}

// rebase makes the changes to a later document of the session. A session that has
// got another user must not get what the request did as the user before. When it
// fails, the session stays as it was, unless it has ended.
func (s *Session) rebase(later func() (Entry, error)) error {
	before := s.content
	err := s.merge(later)
	if err != nil && !s.dead() {
		s.content = before
	}
	return err
}

func (s *Session) merge(later func() (Entry, error)) error {
	whose, changed := string(s.base.Raw(s.m.opts.user...)), s.end.changed || s.dirty()
	entry, err := later()
	if errors.Is(err, session.ErrNotFound) {
		return s.died(err)
	}
	if err != nil {
		return err
	}
	if err := s.adopt(entry); err != nil {
		return err
	}
	if string(s.base.Raw(s.m.opts.user...)) != whose {
		return s.died(fmt.Errorf("%w: it has another user now", session.ErrNotFound))
	}
	for _, c := range s.changes {
		if err := c.apply(s.doc); err != nil {
			return err
		}
	}
	s.end.changed = changed
	return nil
}

// died gives the changes up. Neither is the session stored again nor the cookie
// touched: by now the browser may have another one.
func (s *Session) died(err error) error {
	if len(s.changes) > 0 {
		s.happened(session.Event{Kind: session.EventSaveDropped, Err: err})
		s.tell(zap.InfoLevel, "nodestore: the changes are dropped: the session ended while the request was under way", err)
	}
	s.changes, s.lines, s.newID = nil, nil, ""
	s.state.Become(reqsession.Dead)
	return fmt.Errorf("nodestore: the changes are dropped: %w", err)
}

// touch moves the row's expiry, and leaves the document as it is. That fails no
// request: it was served a live session.
func (s *Session) touch() error {
	cookie := s.m.cookieOf(s.doc)
	s.m.rules.use(cookie, s.m.now())
	expires, err := s.expiry(object([]field{{cookieKey, cookie.Bytes()}}))
	if err != nil {
		return err
	}
	if !s.m.store.TouchDue(s.entry, expires) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.r.Context()), reqsession.TouchLimit)
	defer cancel()
	found, err := s.m.store.Touch(ctx, s.entry.ID, expires)
	switch {
	case err != nil:
		s.happened(session.Event{Kind: session.EventTouchFailed, Err: err})
		s.tell(zap.WarnLevel, "nodestore: touch failed", err)
	case !found: // it ended meanwhile
		s.lines = nil
		s.state.Become(reqsession.Dead)
	}
	return nil
}
