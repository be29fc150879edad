package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// Old is where an application had its sessions before it used a Manager: see
// Options.Old. Its methods may be called concurrently.
type Old interface {
	// Token returns what names the old session in a request, as the value of its
	// cookie does; empty is none. It reads no database. If the cookie is signed, it
	// checks that.
	//
	// genuine says that the cookie's signature was checked, so nobody has made the token
	// up. Of others the Manager looks up so many a second, as of IDs.
	Token(r *http.Request) (token string, genuine bool)
	// Load returns the session that a token names. It is ErrNotFound if there is none,
	// or none that can be read.
	Load(ctx context.Context, token string) (OldSession, error)
	// End ends it. It is no error if there is none.
	End(ctx context.Context, token string) error
}

// OldSession is what a Manager takes over.
type OldSession struct {
	// User is whose session it is, as Session.Login takes it. Empty is nobody.
	User string
	// LoggedInAt is when the user logged in. Zero, which is unknown, counts as long ago,
	// and what is yet to come as now.
	LoggedInAt time.Time
	// Values are what the session holds, as Session.Set takes them.
	Values map[string]any
	// Deadline is when the session ends in any case. Zero is as the Manager's Policy
	// says, which is also the most. If it has passed, there is no session. The idle
	// timeout begins anew.
	Deadline time.Time
}

// oldTurns is how often a request looks again that was slower than another one.
const oldTurns = 5

// takeOver finds the session that the request's old cookie names. It is loaded once and
// then is in the store, under a key that the old token yields. As the browser needs
// another ID, it is renewed when the answer goes out; until then, and for a while, parallel
// requests come to it by the old token.
//
// The old program may end the session after it was loaded. So it is put into the store as
// a claim, and loaded again before it is served. Requests that find a claim do the same:
// whoever is first decides, as each decision is a Save at the claim's version. It is ended
// in the old place after that only, so what is not there while there is a claim has been
// ended by the old program.
func (s *Session) takeOver(ctx context.Context, get func(context.Context, Key) (Record, error)) error {
	old := s.m.opts.Old
	token, genuine := old.Token(s.r)
	s.oldToken = token
	if s.oldToken == "" {
		return nil
	}
	s.oldKey = ForeignKey("old:"+s.m.opts.Name, s.oldToken)
	for range oldTurns {
		rec, there, err := s.lookUpOld(ctx, get, genuine)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return s.unread(ctx, s.oldKey, err)
		}
		get = s.m.fresh
		switch {
		case err != nil:
		case rec.Key.IsZero():
			if err = s.claim(ctx, *there); err == nil {
				continue
			}
		case s.claimed(rec):
			rec, err = s.decide(ctx, rec, there != nil)
		}
		switch {
		case errors.Is(err, ErrNotFound):
			s.miss(s.oldKey, err)
			return nil
		case errors.Is(err, ErrExists), errors.Is(err, ErrConflict):
			continue // a parallel request was faster
		case err == nil && s.byOld(rec):
			err = old.End(ctx, s.oldToken)
		}
		if err != nil {
			return fmt.Errorf("session: take over: %w", err)
		}
		s.asked = s.oldKey
		return s.adopt(rec)
	}
	return fmt.Errorf("session: take over: %w: other requests take it over and fail", ErrConflict)
}

// lookUpOld looks for the session in the store, and in the old place where the store
// knows nothing of it or has a claim only. Tokens that neither knows, and that
// anybody may have made up, use up what is left for such IDs.
func (s *Session) lookUpOld(ctx context.Context, get func(context.Context, Key) (Record, error), genuine bool) (rec Record, there *OldSession, err error) {
	lookUp := func() reqsession.LookedUp {
		rec, err = get(ctx, s.oldKey)
		if neverWas(err) || err == nil && s.claimed(rec) {
			loaded, bad := s.m.opts.Old.Load(ctx, s.oldToken)
			switch {
			case bad == nil:
				there, err = &loaded, nil
			case !errors.Is(bad, ErrNotFound):
				err = bad
			case err != nil: // a parallel request may have ended it there meanwhile
				rec, err = s.m.fresh(ctx, s.oldKey)
			}
		}
		switch {
		case neverWas(err):
			return reqsession.Stranger
		case err != nil && !errors.Is(err, ErrNotFound):
			return reqsession.Unanswered
		}
		return reqsession.Met
	}
	if genuine {
		lookUp()
	} else if ended := s.m.strangers.LookUp(ctx, s.oldKey.Hash, lookUp); ended != nil {
		return Record{}, nil, ended
	}
	return rec, there, err
}

// neverWas reports whether err says that the store knows of no such session.
func neverWas(err error) bool { return errors.Is(err, ErrNotFound) && FateOf(err) == FateUnknown }

// claim puts an old session into the store, unless it has been there.
func (s *Session) claim(ctx context.Context, from OldSession) error {
	values := make(map[string]json.RawMessage, len(from.Values))
	for key, v := range from.Values {
		err := checkKey(key)
		if err == nil {
			values[key], err = encodeValue(key, v)
		}
		if err != nil {
			return err
		}
	}
	d := s.draft("", nil)
	if from.User != "" {
		if err := checkLogin(from.User, ""); err != nil {
			return err
		}
		d = s.draft(s.m.stored(from.User), nil)
		d.head.loggedIn = min(max(from.LoggedInAt.Unix(), 1), d.head.issued)
	}
	d.head.issued = 0
	data, err := s.m.encode(s.m.bound(s.oldKey, d.user), d.head, values)
	if err != nil {
		return err
	}
	err = timed(func() error {
		rec := Record{Key: s.oldKey, User: d.user, Data: data, Deadline: earlier(from.Deadline, d.deadline())}
		rec.Expires = earlier(s.m.expiry(d.policy), rec.Deadline)
		_, err := s.m.store.Create(ctx, rec)
		return err
	})
	if errors.Is(err, ErrDeadline) && !from.Deadline.IsZero() && !s.m.now().Before(from.Deadline) {
		return NotFound(FateExpired)
	}
	return err
}

// claimed reports whether it is a claim: no ID has been made for it.
func (s *Session) claimed(rec Record) bool {
	h, _, err := split(rec.Data)
	return s.byOld(rec) && err == nil && h.issued == 0
}

// decide makes a claim a session or, if it has ended in the old place, ends it. The error
// is ErrConflict if another request has decided.
func (s *Session) decide(ctx context.Context, rec Record, there bool) (Record, error) {
	h, body, err := split(rec.Data)
	if err != nil {
		return Record{}, err
	}
	h.issued = s.m.now().Unix()
	if rec.Data, err = join(h, body); err != nil {
		return Record{}, err
	}
	if !there {
		rec.Expires = rec.Created.Add(-time.Minute)
	}
	if rec, err = s.m.store.Save(ctx, rec); err != nil {
		return Record{}, err
	}
	if !there {
		return Record{}, NotFound(FateEnded)
	}
	e := Event{Kind: EventCreated, Key: rec.Key, Reason: ReasonTakenOver}
	if rec.User != "" {
		e.User = rec.User[len(s.m.prefix):]
	}
	s.happened(e)
	return rec, nil
}

// earlier is the earlier one of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// byOld reports whether a record is of the old token's key.
func (s *Session) byOld(rec Record) bool {
	return !s.oldKey.IsZero() && rec.Key.Hash == s.oldKey.Hash
}

// byOldToken reports whether the session has no ID yet that the browser could be given.
func (s *Session) byOldToken() bool { return s.byOld(s.rec) }

// oldGrace is for how long at least requests come to their session by the old token.
const oldGrace = time.Minute
