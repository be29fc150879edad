package session

import (
	"context"
	"fmt"
	"time"
)

// SetPolicy gives the session another policy without a login: "keep me signed in"
// that is ticked later, or a shorter one on a screen that many use. nil is the
// manager's. It counts for as long as the session lasts, or until a login, which
// brings its own.
//
// The deadline becomes what it would be if the session had had the policy from its
// login on or, without a user, since it began: a session lasts no longer for having
// its policy set again and again. It is ErrDeadline if by that it would be over:
// call Logout then. Without an AbsoluteTimeout it gets the longest deadline there is.
//
// A store fixes the deadline with the ID. So the session gets a new one, as by Renew:
// with the answer, or now by Save; for Policy.RenewGrace the old ID still works. A
// session that is not stored yet begins with the policy, and one that a Login or a
// Renew of this request is about to replace gets it then. It is ErrInvalid, with the
// field and the limit, if a policy cannot be, and else fails as Renew.
func (s *Session) SetPolicy(ctx context.Context, p *Policy) error {
	policy := s.m.policy
	if p != nil {
		own := *p
		p, policy = &own, own.withDefaults()
		if err := policy.check("SetPolicy", s.m.longest(), s.m.cookie); err != nil {
			return err
		}
	}
	return s.do(ctx, func() error {
		if err := s.writable(); err != nil {
			return err
		}
		switch {
		case s.dead() && s.next == nil:
			return errEnded
		case s.rec.Key.IsZero() && s.next == nil:
			s.head.policy, s.policy = p, policy
			return nil
		}
		d, before := s.rotation(policy.RenewGrace), s.delta.clone()
		if s.next != nil {
			d, before = *s.next, s.next.before
		}
		d.head.policy, d.policy = p, policy
		d.id = ID{} // it has the deadline in it
		var err error
		if d.deadline, err = s.deadlineBy(policy, d); err == nil {
			err = s.prepare(d)
		}
		if err == nil {
			s.next.before = before
		}
		return err
	})
}

// deadlineBy is the deadline of a draft that has that policy.
func (s *Session) deadlineBy(p Policy, d draft) (func() time.Time, error) {
	anonymous := d.user == ""
	if d.reason == ReasonLogin || p.endless(anonymous) {
		return s.deadline(p, anonymous), nil
	}
	began := s.rec.Created
	if !anonymous && s.head.loggedIn != 0 {
		began = s.head.loggedInAt()
	}
	until := began.Add(p.lifetime(anonymous, s.m.longest()))
	if now := s.m.now(); !until.After(now) {
		return nil, fmt.Errorf("%w: by that policy the session has been over for %v", ErrDeadline, now.Sub(until))
	}
	return func() time.Time { return until }, nil
}
