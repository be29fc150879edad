package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// Login is what to keep of a login beside the user. The zero Login works.
type Login struct {
	// Policy is the session's own; nil is the manager's. Remember-me is
	// PolicyRememberMe here.
	Policy *Policy
	// Label is how the user knows the device, for a list of sessions. It is
	// UTF-8 of up to 200 bytes.
	Label string
}

const maxLabel = 200

// Login makes the session that of user, whom the application has authenticated,
// and gives it a new ID and a new deadline. The old ID is dead at once, for
// other requests too, so nobody who knew it is logged in with the user. OWASP
// asks for that (Session Management Cheat Sheet, "Renew the Session ID After
// Any Privilege Level Change"). What the session holds stays, unless it was
// another user's. It is all done when Login returns; the cookie goes with the
// answer.
//
// user is the application's name for the user. It must be UTF-8 without control
// characters, not empty and of up to 255 bytes in most stores, Options.Name
// included. Otherwise the error is ErrInvalid or ErrTooLarge. The error is
// ErrUserLimit if the user has too many sessions (see Options.UserLimit),
// ErrTooLate if the answer has begun, and ErrInsecure if the browser would not
// take the cookie. When it fails, the session stays as it was, unless it is
// ErrUnknown.
func (s *Session) Login(ctx context.Context, user string, login Login) error {
	if err := checkLogin(user, login.Label); err != nil {
		return err
	}
	if p := login.Policy; p != nil {
		if err := p.withDefaults().check("Login.Policy", s.m.longest(), !s.m.cookie.Insecure); err != nil {
			return err
		}
	}
	return s.do(ctx, func() error {
		if err := s.writable(); err != nil {
			return err
		}
		d := s.draft(s.m.stored(user), login.Policy)
		d.head.loggedIn, d.head.about = d.head.issued, describe(s.m.observe(s.r, login.Label))
		d.reason = ReasonLogin
		within := reqsession.Exactly(ctx)
		changes := s.delta
		if !s.rec.Key.IsZero() && !s.dead() {
			if err := s.renew(within, d, s.m.opts.UserLimit); err == nil || !s.dead() {
				return err
			}
		}
		if s.dead() { // what it held has ended with it
			s.values = map[string]json.RawMessage{}
			if err := changes.apply(s.values); err != nil {
				return err
			}
		}
		return s.begin(within, d, s.m.opts.UserLimit)
	})
}

// Renew gives the session a new ID, with all that it holds, after other changes
// of what its user may do. For grace the old ID still works, for requests that
// are under way: from 0, with which it is dead at once, to MaxGrace. The
// deadline stays: only a login moves it. A session without a user, though, gets
// the deadline of one with a user, for applications that keep their users in
// values. A session that is not stored yet has no ID to renew, which is no
// error.
//
// It is ErrNotFound if the session has ended meanwhile, and else fails as
// Login.
func (s *Session) Renew(ctx context.Context, grace time.Duration) error {
	if grace < 0 || grace > MaxGrace {
		return fmt.Errorf("%w: the grace period is %v; it must be from 0 to %v", ErrInvalid, grace, MaxGrace)
	}
	return s.do(ctx, func() error {
		if err := s.writable(); err != nil {
			return err
		}
		if s.dead() {
			return errEnded
		}
		if s.rec.Key.IsZero() {
			return nil
		}
		d := s.rotation(grace)
		if s.rec.User == "" {
			d.deadline = s.deadline(s.policy, false)
		}
		return s.renew(reqsession.Exactly(ctx), d, UserLimit{})
	})
}

// Destroy ends the session, and has the browser forget its cookie. Values that
// the request sets afterwards begin a new one. It is no error if there is none.
func (s *Session) Destroy(ctx context.Context) error { return s.end(ctx, s.m.store.Destroy) }

// DestroyOnAllNodes is Destroy that returns when no node can serve the session any
// more. It is errors.ErrUnsupported if the store cannot tell.
func (s *Session) DestroyOnAllNodes(ctx context.Context) error {
	if s.m.waiter == nil {
		return fmt.Errorf("session: the store cannot wait for other nodes: %w", errors.ErrUnsupported)
	}
	return s.end(ctx, s.m.waiter.DestroyOnAllNodes)
}

// Logout is Destroy, and has the browser remove all it keeps of the site by
// Clear-Site-Data (W3C), as OWASP asks: its caches, storage and cookies, those
// of subdomains included. If that is too much, call Destroy.
func (s *Session) Logout(ctx context.Context) error {
	if err := s.Destroy(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearSite = true
	return nil
}

func (s *Session) end(ctx context.Context, destroy func(context.Context, ...Key) (int64, error)) error {
	return s.do(ctx, func() error {
		if err := s.usable(); err != nil {
			return err
		}
		if !s.rec.Key.IsZero() {
			ended, err := destroy(ctx, s.rec.Key)
			if err != nil {
				return err
			}
			if ended > 0 {
				s.happened(Event{Kind: EventDestroyed, Reason: ReasonLogout})
			}
		}
		s.forget()
		return nil
	})
}

// forget is for a session that has been ended by this very request.
func (s *Session) forget() {
	if s.cookie || s.line != "" {
		s.line = s.m.cookie.clear(s.policy)
	}
	s.state.Begin()
	s.reset()
}

// draft is a session to be.
type draft struct {
	id       ID
	user     string // as the store knows it
	deadline func() time.Time
	until    time.Time // the deadline of id
	grace    time.Duration
	head     head
	policy   Policy
	reason   Reason
	due      func() bool // nil: it is wanted in any case
}

func (s *Session) draft(user string, policy *Policy) draft {
	h := head{name: s.m.opts.Name, policy: policy, issued: s.m.now().Unix()}
	d := draft{user: user, head: h, policy: s.m.policyOf(h)}
	d.deadline = s.deadline(d.policy, user == "")
	return d
}

// rotation is the same session with another ID.
func (s *Session) rotation(grace time.Duration) draft {
	same := s.rec.Deadline
	d := draft{user: s.rec.User, deadline: func() time.Time { return same }, grace: grace, head: s.head, policy: s.policy}
	d.head.issued = s.m.now().Unix()
	if anonymous := d.user == ""; d.policy.endless(anonymous) {
		d.deadline = s.deadline(d.policy, anonymous)
	}
	return d
}

func (s *Session) deadline(p Policy, anonymous bool) func() time.Time {
	return func() time.Time { return s.m.now().Add(p.lifetime(anonymous, s.m.longest())) }
}

// begin creates the session.
func (s *Session) begin(within reqsession.Limits, d draft, limit UserLimit) error {
	ctx, cancel := within()
	defer cancel()
	var rec Record
	var evicted []Key
	err := s.timed(func() (err error) {
		d.id = ID{}
		if rec, err = s.record(&d); err != nil {
			return err
		}
		if d.user != "" && limit.Max > 0 {
			rec, evicted, err = s.m.users.CreateLimited(ctx, rec, limit)
		} else {
			rec, err = s.m.store.Create(ctx, rec)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.become(rec, d)
	s.happened(Event{Kind: EventCreated, Reason: d.reason})
	s.evicted(evicted)
	return nil
}

// timed runs do, which computes times from the store's clock, and runs it again
// after ErrDeadline. The store corrects its clock before it refuses a time: see
// Clock.
func (s *Session) timed(do func() error) error {
	err := do()
	if errors.Is(err, ErrDeadline) {
		err = do()
	}
	return err
}

// renew replaces the session, with the changes. When it fails, they are still
// to be made.
func (s *Session) renew(within reqsession.Limits, d draft, limit UserLimit) error {
	changes := s.delta
	if s.rec.User != "" && s.rec.User != d.user {
		s.delta.clear() // what another user left is nobody else's business
		s.values = map[string]json.RawMessage{}
	}
	err := s.replace(within, d, limit)
	if err != nil && !s.dead() {
		s.delta, s.values = changes, nil
		if bad := errors.Join(s.decode(), s.delta.apply(s.values)); bad != nil {
			return errors.Join(err, bad)
		}
	}
	return err
}

func (s *Session) replace(within reqsession.Limits, d draft, limit UserLimit) error {
	ctx, cancel := within()
	defer cancel()
	for attempt := 1; ; attempt++ {
		var rec Record
		var evicted []Key
		err := s.timed(func() (err error) {
			if rec, err = s.record(&d); err != nil {
				return err
			}
			if d.reason == ReasonLogin && limit.Max > 0 {
				rec, evicted, err = s.m.users.RenewLimited(ctx, s.rec.Key, rec, d.grace, limit)
			} else {
				rec, err = s.m.store.Renew(ctx, s.rec.Key, rec, d.grace)
			}
			if errors.Is(err, ErrDeadline) {
				d.id = ID{} // it has the deadline in it
			}
			return err
		})
		if err == nil {
			old := s.rec.Key
			s.become(rec, d)
			s.happened(Event{Kind: EventRenewed, Old: old, Reason: d.reason})
			s.evicted(evicted)
			return nil
		}
		if err := s.again(ctx, err, attempt); err != nil {
			return err
		}
		if d.due != nil && !d.due() {
			return errNotDue
		}
	}
}

// errNotDue says that another request has renewed the session: its answer
// brings the browser the cookie.
var errNotDue = errors.New("session: renewed by another request")

// record makes the record that the store is given, with a new ID if the draft
// has none.
func (s *Session) record(d *draft) (Record, error) {
	if s.state.Sealed() {
		return Record{}, fmt.Errorf("%w: a new ID needs a cookie", ErrTooLate)
	}
	if err := s.m.reaches(s.r); err != nil {
		return Record{}, err
	}
	data, err := s.encode(d.head)
	if err != nil {
		return Record{}, err
	}
	if d.id.IsZero() {
		d.until = d.deadline()
		d.id = NewID(d.until)
	}
	rec := Record{Key: d.id.Key(), Version: s.rec.Version, User: d.user, Deadline: d.until, Expires: s.expiry(d.policy), Data: data}
	if rec.Expires.After(rec.Deadline) {
		rec.Expires = rec.Deadline
	}
	return rec, nil
}

// become takes over a new ID.
func (s *Session) become(rec Record, d draft) {
	s.rec, s.head, s.policy = rec, d.head, d.policy
	s.delta = delta{}
	s.state.Begin()
	_, s.body, _ = split(rec.Data) // we made it
	s.line = s.m.cookie.set(d.id, d.policy, rec.Deadline.Sub(s.m.now()))
}

func (s *Session) evicted(keys []Key) {
	for _, key := range keys {
		s.happened(Event{Kind: EventDestroyed, Key: key, Reason: ReasonLimit})
	}
}

func checkLogin(user, label string) error {
	switch {
	case user == "":
		return fmt.Errorf("%w: the user is empty", ErrInvalid)
	case !utf8.ValidString(user) || strings.ContainsFunc(user, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%w: the user must be UTF-8 without control characters", ErrInvalid)
	case len(label) > maxLabel || !utf8.ValidString(label):
		return fmt.Errorf("%w: Login.Label has %d bytes; it must be UTF-8 of up to %d", ErrInvalid, len(label), maxLabel)
	}
	return nil
}

const maxAgent = 200

// observe returns what the options want to be known about a browser.
func (m *Manager) observe(r *http.Request, label string) about {
	a := about{Label: label}
	if m.opts.Address != nil {
		a.Address = network(m.opts.Address(r))
	}
	if m.opts.RecordAgent {
		agent := r.UserAgent()
		a.Agent = strings.ToValidUTF8(agent[:min(len(agent), maxAgent)], "")
	}
	return a
}

// network returns the network of an address, which does not tell people apart.
func network(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	bits := 24
	if addr.Is6() {
		bits = 48
	}
	prefix, err := addr.Prefix(bits)
	if err != nil || !prefix.IsValid() {
		return "" // it is no address
	}
	return prefix.String()
}
