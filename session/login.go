package session

import (
	"context"
	"crypto/rand"
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
// another user's.
//
// All of that happens in one write when the answer begins, since what the browser
// has may only end where it is given something better: see Manager.Handler. Until
// then nothing has happened but that User returns the user. Save does it now.
//
// user is the application's name for the user. It must be UTF-8 without control
// characters, not empty and of up to 255 bytes in most stores, Options.Name
// included. Otherwise the error is ErrInvalid, or ErrTooLarge when it is saved.
// The error is ErrUserLimit if the user has too many sessions (see
// Options.UserLimit); of logins at the same time some may be told when they are
// saved. It is ErrTooLate if the answer has begun or the request's context has
// ended, and ErrInsecure or ErrMisplaced if the browser would not take the cookie
// or not send it back. When Login fails, the session stays as it was.
func (s *Session) Login(ctx context.Context, user string, login Login) error {
	if err := checkLogin(user, login.Label); err != nil {
		return err
	}
	if p := login.Policy; p != nil {
		if err := p.withDefaults().check("Login.Policy", s.m.longest(), s.m.cookie); err != nil {
			return err
		}
	}
	seen := describe(s.m.observe(s.r, login.Label)) // before the lock: the application's function may use the session
	return s.do(ctx, func() error {
		if err := s.writable(); err != nil {
			return err
		}
		d := s.draft(s.m.stored(user), login.Policy)
		d.head.loggedIn, d.head.about = d.head.issued, seen
		d.reason, d.severs = ReasonLogin, true
		if err := s.replaceable(d); err != nil {
			return err
		}
		if err := s.hasRoom(ctx, d.user); err != nil {
			return err
		}
		if s.dead() {
			if err := s.restart(s.delta); err != nil {
				return err
			}
		}
		d.before = s.delta.clone()
		if was := s.m.stored(s.user()); was != "" && was != d.user {
			s.delta.clear() // what another user left is nobody else's business
			s.values = map[string]json.RawMessage{}
		}
		s.next = &d
		s.state.Begin()
		return nil
	})
}

// hasRoom is ErrUserLimit if the user has as many sessions as the limit allows, this
// one not counted. The write itself decides.
func (s *Session) hasRoom(ctx context.Context, user string) error {
	limit := s.m.opts.UserLimit
	if limit.Max == 0 || limit.Evict {
		return nil
	}
	n, err := s.m.users.CountUser(ctx, user)
	if err != nil {
		return err
	}
	if !s.rec.Key.IsZero() && !s.dead() && s.rec.User == user {
		n--
	}
	if n >= int64(limit.Max) {
		return fmt.Errorf("%w: there are %d; Options.UserLimit.Max is %d", ErrUserLimit, n, limit.Max)
	}
	return nil
}

// Renew gives the session a new ID, with all that it holds, after other changes
// of what its user may do. It happens with the answer, as Login, and Save does it
// now. For grace the old ID still works, for requests that are under way: from 0,
// with which it is dead at once, to MaxGrace. The deadline stays: only a login
// moves it. A session without a user, though, gets the deadline of one with a
// user, for applications that keep their users in values. A session that is not
// stored yet has no ID to renew, which is no error; nor need one be renewed that
// Login will.
//
// It is ErrNotFound if the session was found to have ended meanwhile, and else
// fails as Login.
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
		if s.rec.Key.IsZero() || s.next != nil && s.next.reason == ReasonLogin {
			return nil
		}
		d := s.rotation(grace)
		if s.next != nil { // by SetPolicy
			d = *s.next
			d.grace = grace
		}
		d.severs = grace == 0
		if s.rec.User == "" {
			d.deadline = s.deadline(d.policy, false)
		}
		return s.prepare(d)
	})
}

// prepare has the session replaced when the answer begins.
func (s *Session) prepare(d draft) error {
	if err := s.replaceable(d); err != nil {
		return err
	}
	d.before = s.delta.clone()
	s.next = &d
	s.state.Begin()
	return nil
}

// cancel is for what Login or Renew have prepared and Save could not do: the
// session is again as it was.
func (s *Session) cancel() error {
	s.delta, s.values, s.next = s.next.before, nil, nil
	if err := s.decode(); err != nil {
		return err
	}
	return s.reapply()
}

// replaceable is an error if the browser can no longer be told of another ID, or
// the session cannot be encoded.
func (s *Session) replaceable(d draft) error {
	if reqsession.ReachOf(s.ctx, reqsession.Later) == reqsession.Nobody {
		return s.tooLate(reqsession.Nobody)
	}
	_, err := s.record(&d)
	return err
}

// take does what Login and Renew have prepared.
func (s *Session) take(within reqsession.Limits) error {
	d, limit, changes := *s.next, UserLimit{}, s.delta
	if d.reason == ReasonLogin {
		limit = s.m.opts.UserLimit
	}
	if !s.rec.Key.IsZero() {
		if err := s.renew(within, d, limit); err == nil || !s.dead() || d.reason != ReasonLogin {
			return err
		}
		if err := s.restart(changes); err != nil {
			return err
		}
		s.next = &d
	}
	return s.begin(within, d, limit)
}

// restart makes it an empty session with the changes: what it held has ended with
// the one before.
func (s *Session) restart(changes delta) error {
	s.reset()
	s.state.Begin()
	s.values = map[string]json.RawMessage{}
	return changes.apply(s.values)
}

// tooLate is the error of what needs a cookie that cannot reach the browser.
func (s *Session) tooLate(reach reqsession.Reach) error {
	if reach == reqsession.Nobody {
		return fmt.Errorf("%w: the request's context has ended before: %w", ErrTooLate, context.Cause(s.ctx))
	}
	return fmt.Errorf("%w: its connection is hijacked, and a new ID needs a cookie. Call Save before and send the header, or call WriteHeader first", ErrTooLate)
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

// Logout is Destroy, and has the browser remove what it keeps of the site by
// Clear-Site-Data (W3C), as OWASP asks: the storage of this origin, and the cookies
// of the whole registrable domain, those of sister hosts included. Cookies stay if the answer sets one, as after another
// Login. Its caches stay: browsers take seconds to empty them. A handler that
// wants more, or less, sets the field itself. If all of it is too much, call
// Destroy.
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
	if s.cookie || s.line != "" || s.token != "" {
		s.line = s.m.cookie.clear(s.policy)
	}
	s.token = ""
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
	before   delta       // what else was to be saved when it was prepared
	severs   bool        // whether CSRF tokens of before are good no more
	root     *csrfRoot   // of the tokens that were made for it; nil if none were
}

func (s *Session) draft(user string, policy *Policy) draft {
	h := head{name: s.m.opts.Name, policy: policy, issued: s.m.now().Unix(), about: describe(about{Handle: newHandle()})}
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
	err := timed(func() (err error) {
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
func timed(do func() error) error {
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
	err := s.replace(within, d, limit)
	if err != nil && !s.dead() {
		s.delta, s.values = changes, nil
		bad := s.decode()
		if bad == nil {
			bad = s.reapply()
		}
		if bad != nil {
			return errors.Join(err, bad)
		}
	}
	return err
}

// replace waits for other requests of this node that save the session: each of
// them would have it try again.
func (s *Session) replace(within reqsession.Limits, d draft, limit UserLimit) error {
	ctx, cancel := within()
	defer cancel()
	_, err := s.m.merger.save(ctx, &share{rec: s.rec, whole: func(known Record) (Record, error) {
		if known.Version > s.rec.Version {
			if s.exact && !s.delta.empty() {
				return Record{}, fmt.Errorf("%w: another request has saved the session", ErrConflict)
			}
			if err := s.rebase(known); err != nil {
				return Record{}, err
			}
			if d.due != nil && !d.due() {
				return known, errNotDue
			}
		}
		if err := s.replaceAlone(ctx, d, limit); err != nil || d.grace == 0 {
			return Record{}, err
		}
		return s.rec, nil
	}})
	return err
}

func (s *Session) replaceAlone(ctx context.Context, d draft, limit UserLimit) error {
	for attempt := 1; ; attempt++ {
		var rec Record
		var evicted []Key
		err := timed(func() (err error) {
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
	if s.r != nil {
		if err := s.m.reaches(s.r); err != nil {
			return Record{}, err
		}
	}
	if d.id.IsZero() {
		d.until = d.deadline()
		d.id = NewID(d.until)
	}
	key := d.id.Key()
	d.head.csrf = s.wrapRoot(d)
	data, err := s.encode(d.head, key, d.user)
	if err != nil {
		return Record{}, err
	}
	rec := Record{Key: key, Version: s.rec.Version, User: d.user, Deadline: d.until, Expires: s.m.expiry(d.policy), Data: data}
	if rec.Expires.After(rec.Deadline) {
		rec.Expires = rec.Deadline
	}
	return rec, nil
}

// become takes over a new ID.
func (s *Session) become(rec Record, d draft) {
	s.rec, s.head, s.policy, s.made = rec, d.head, d.policy, d.id
	s.delta, s.next = delta{}, nil
	s.state.Begin()
	_, s.body, _ = split(rec.Data) // we made it
	value := s.m.cookie.value(d.id)
	s.line = s.m.cookie.set(value, d.policy, rec.Deadline.Sub(s.m.now()))
	if s.r == nil {
		s.token = value
	}
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

// newHandle makes an Info.Handle. It tells a user's sessions apart, and is no
// secret.
func newHandle() string { return rand.Text()[:16] }

const maxAgent = 200

// observe returns what the options want to be known about a browser. r is nil
// outside a handler.
func (m *Manager) observe(r *http.Request, label string) about {
	a := about{Handle: newHandle(), Label: label}
	if r == nil {
		return a
	}
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
