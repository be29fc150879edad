package nodestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sojourn-go/sojourn/internal/redacted"
	"github.com/sojourn-go/sojourn/internal/reqsession"
	"github.com/sojourn-go/sojourn/session"
)

// Session is a Node application's session in one request of a Go service. Its
// methods may be called concurrently, and until the request's handler returns.
//
// What a request changes is a difference by key, which is made to what another
// one has saved meanwhile, in Go or in Node. Of two Go requests that change
// different values both win. Node packages do not do that: a request of theirs
// that read the session before and saves it later replaces all of it.
//
// If the session ended while a request was under way, its changes are dropped,
// EventSaveDropped says so, and its cookie is left alone.
//
// A Session prints, logs and marshals as a placeholder: SID returns its ID.
type Session struct {
	placeholder
	*visit
}

// visit is what a Session is, behind a pointer: where fmt ignores the methods of a
// Session, as in an unexported field, it prints the fields and does not follow this.
type visit struct {
	m *site
	r *http.Request

	mu         reqsession.Lock
	state      reqsession.State
	unreadable bool // there is a row that can only be ended
	content
	end    atEnd  // only the flags that the handler has set
	old    Entry  // what Regenerate has left, which ends when the new one is stored
	newID  string // of Renew, until it is stored
	lines  []cookieLine
	events []session.Event
}

// content is what the request knows of its session, and what it changes.
type content struct {
	entry   Entry // as it was read or written; without an ID if there is none, and with nothing else if it is unreadable
	doc     *Document
	base    *Document // what of doc is stored, or what it began as
	changes []change
}

// clone is content that later changes leave alone.
func (c content) clone() content {
	c.doc, c.changes = c.doc.clone(), slices.Clone(c.changes)
	return c
}

// placeholder makes what embeds it print as a placeholder.
type placeholder = redacted.Value

// dead reports whether the session ended while the request was under way.
func (s *Session) dead() bool { return s.state.Is(reqsession.Dead) }

// do runs f under the lock and then tells the hook what happened.
func (s *Session) do(ctx context.Context, f func() error) error {
	events, err := s.locked(f)
	reqsession.Emit(ctx, s.m.opts.onEvent, s.m.log, s.r, events)
	return err
}

// errInside is the error of calls that a function makes which runs within one.
var errInside = fmt.Errorf("nodestore: %w: the function must not use the session", session.ErrInvalid)

func (s *Session) locked(f func() error) ([]session.Event, error) {
	if !s.mu.Enter() {
		return nil, errInside
	}
	defer s.mu.Unlock()
	err := f()
	events := s.events
	s.events = nil
	return events, err
}

// inside runs a function of the application while the session is locked.
func (s *Session) inside(f func() error) (err error) {
	if alone := s.mu.Call(func() { err = f() }); !alone {
		return errInside
	}
	return err
}

func (s *Session) happened(e session.Event) {
	if e.Key.IsZero() && s.entry.ID != "" {
		e.Key = s.m.key(s.entry.ID)
	}
	if e.User == "" && s.doc != nil {
		e.User = s.user()
	}
	s.events = append(s.events, e)
}

// open loads the session with the first call.
func (s *Session) open(ctx context.Context) (*Session, error) {
	if !s.m.inPath(s.r) {
		return nil, fmt.Errorf("nodestore: %w: the request is outside the cookie's path", session.ErrNoManager)
	}
	err := s.do(ctx, func() error {
		return s.state.Open(ctx, s.r.Context(), func() error { return s.load(ctx) })
	})
	return s, err
}

// load finds the session that the cookie names. A sid of which there is no
// session is never adopted.
func (s *Session) load(ctx context.Context) error {
	if err := s.begin(); err != nil {
		return err
	}
	f := s.m.rules.read(s.r)
	s.m.differs.cookie(s.m, f, header(s.r))
	s.setLines(s.m.rules.correct(f, s.m.https(s.r)))
	if f.sid == "" {
		if f.given {
			s.happened(session.Event{Kind: session.EventInvalidID})
		}
		return nil
	}
	entry, err := s.m.lookUp(ctx, f.sid)
	if errors.Is(err, session.ErrNotFound) {
		s.m.differs.lookedUp(false)
		s.happened(session.Event{Kind: session.EventUnknownID, Key: s.m.key(f.sid)})
		if s.m.clearUnknown {
			s.setLines(s.clear())
		}
		return nil
	}
	if err == nil {
		err = s.adopt(entry)
	} else if errors.Is(err, session.ErrUndecodable) {
		s.happened(session.Event{Kind: session.EventUndecodable, Key: s.m.key(f.sid), Err: err})
	} else if reqsession.Alone(ctx, s.r.Context()) {
		s.lines = nil // the next call begins anew
	}
	if errors.Is(err, session.ErrUndecodable) {
		s.entry, s.unreadable = Entry{ID: f.sid}, true
	}
	if err == nil {
		s.compare()
	}
	return err
}

// compare has it noticed where the session is not as Go would have made it.
func (s *Session) compare() {
	s.m.differs.lookedUp(true)
	if s.m.differs.compared.Add(1) > mostCompared {
		return
	}
	cookie := s.m.cookieOf(s.doc)
	s.m.rules.use(cookie, s.m.now())
	doc, err := s.m.documentOf(cookie)
	if err != nil {
		return
	}
	if ends, err := s.expiry(doc.Bytes()); err == nil {
		s.m.differs.session(s.cookie(), s.m.opts.cookie, s.entry.Expires, ends)
	}
}

// begin makes it an empty session.
func (s *Session) begin() error {
	cookie, err := s.m.rules.fresh(s.m.now(), s.m.https(s.r))
	if err != nil {
		return err
	}
	doc, err := s.m.documentOf(cookie)
	if err != nil {
		return err
	}
	s.entry, s.doc, s.base, s.changes, s.newID = Entry{}, doc, doc.clone(), nil, ""
	return nil
}

// adopt takes over what was read from the store.
func (s *Session) adopt(entry Entry) error {
	doc, err := ParseDocument(entry.Data)
	if err == nil && !s.m.whole && !s.m.flat && !isCookie(doc.Raw(cookieKey)) {
		err = fmt.Errorf("nodestore: %w: it has no cookie object, which express-session needs", session.ErrUndecodable)
	}
	if err != nil {
		s.happened(session.Event{Kind: session.EventUndecodable, Key: s.m.key(entry.ID), Err: err})
		return err
	}
	s.entry, s.doc, s.base = entry, doc, doc.clone()
	return nil
}

// isCookie reports whether express-session makes a cookie of a value: what is
// there and false in JavaScript is one without options.
func isCookie(raw json.RawMessage) bool {
	return !nullish(raw) && (!truthy(raw) || raw[0] == '{' || raw[0] == '[')
}

// forget leaves of the session what is needed to end it.
func (s *Session) forget() error {
	doc, err := s.m.documentOf(s.m.cookieOf(s.doc))
	if err != nil {
		return err
	}
	s.doc, s.base, s.changes = doc, doc.clone(), nil
	return nil
}

// documentOf is a session that has nothing but its cookie.
func (m *site) documentOf(cookie *Document) (*Document, error) {
	if m.flat {
		return split(cookie.Bytes())
	}
	return split(object([]field{{cookieKey, cookie.Bytes()}}))
}

// cookieOf returns the cookie object of a session, an empty one if there is none.
func (m *site) cookieOf(doc *Document) *Document {
	if m.flat {
		return flatCookie(doc)
	}
	if cookie, err := split(doc.Raw(cookieKey)); err == nil {
		return cookie
	}
	return &Document{tail: []byte{'}'}}
}

// setLines replaces what was to be sent for the same cookies.
func (s *Session) setLines(lines []cookieLine) {
	for _, line := range lines {
		for i, old := range s.lines {
			if old.name == line.name {
				s.lines = append(s.lines[:i:i], s.lines[i+1:]...)
				break
			}
		}
		s.lines = append(s.lines, line)
	}
}

func (s *Session) lasting() reqsession.Limits { return reqsession.Lasting(s.r.Context()) }

// close ends the request. It saves what was changed after the answer had begun.
func (s *Session) close() {
	_ = s.do(s.r.Context(), func() error { // it is always nil
		if !s.state.Close() || s.entry.ID == "" || !s.dirty() {
			return nil
		}
		if err := s.save(s.lasting()); err != nil && !s.dead() {
			s.happened(session.Event{Kind: session.EventSaveFailed, Err: err})
			s.tell(zap.ErrorLevel, "nodestore: what changed after the answer had begun is not saved", err)
		}
		return nil
	})
}

// tell logs what failed of the session's request.
func (s *Session) tell(level zapcore.Level, what string, err error) {
	s.m.log.Tell(level, what, kindOf(err), s.r, zap.Stringer("session", s.m.key(s.entry.ID)), zap.Error(err))
}

// user is the user's JSON text, without the quotes of a string.
func (s *Session) user() string {
	raw := s.doc.Raw(s.m.opts.user...)
	if string(raw) == "null" {
		return ""
	}
	var name string
	if json.Unmarshal(raw, &name) == nil {
		return name
	}
	return string(raw)
}

// User returns whose session it is, by the option User: a string as it is,
// anything else as its JSON text. It is empty where nobody has logged in.
func (s *Session) User() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doc == nil {
		return ""
	}
	return s.user()
}

// SID returns the session's ID, as req.sessionID. It is a secret: anybody who
// knows it and the secrets has the session. It is empty while there is no row.
func (s *Session) SID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entry.ID
}

// Key names the session in logs: it is no secret. It is zero while there is no
// row.
func (s *Session) Key() session.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entry.ID == "" {
		return session.Key{}
	}
	return s.m.key(s.entry.ID)
}

// IsNew reports whether there is no row of the session yet.
func (s *Session) IsNew() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entry.ID == ""
}
