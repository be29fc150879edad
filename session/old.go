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
	Token(r *http.Request) string
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
	// LoggedInAt is when the user logged in. Zero, which is unknown, counts as long ago.
	LoggedInAt time.Time
	// Values are what the session holds, as Session.Set takes them.
	Values map[string]any
	// Deadline is when the session ends in any case. Zero is as the Manager's Policy
	// says, which is also the most. The idle timeout begins anew.
	Deadline time.Time
}

// oldTurns is how often a request looks again that was slower than another one.
const oldTurns = 5

// takeOver finds the session that the request's old cookie names. It is loaded once and
// then is in the store, under a key that the old token yields. As the browser needs
// another ID, it is renewed when the answer goes out; until then, and for a while, parallel
// requests come to it by the old token.
func (s *Session) takeOver(ctx context.Context, get func(context.Context, Key) (Record, error)) error {
	old := s.m.opts.Old
	s.oldToken = old.Token(s.r)
	if s.oldToken == "" {
		return nil
	}
	s.oldKey = ForeignKey("old:"+s.m.opts.Name, s.oldToken)
	for range oldTurns {
		rec, found, err := s.lookUpOld(ctx, get)
		switch {
		case errors.Is(err, ErrNotFound):
			s.miss(s.oldKey, err)
			return nil
		case err != nil:
			return s.unread(ctx, s.oldKey, err)
		case found != nil:
			if rec, err = s.claim(ctx, *found); errors.Is(err, ErrExists) {
				get = s.m.fresh
				continue // a parallel request was faster
			}
			if errors.Is(err, ErrNotFound) {
				s.miss(s.oldKey, err)
				return nil
			}
		}
		if err == nil && rec.Key.Hash == s.oldKey.Hash {
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

// lookUpOld looks for the session in the store, and where that knows nothing of it in
// the old place. Tokens that neither knows use up what is left for IDs that were made up.
func (s *Session) lookUpOld(ctx context.Context, get func(context.Context, Key) (Record, error)) (rec Record, found *OldSession, err error) {
	ended := s.m.strangers.LookUp(ctx, s.oldKey.Hash, func() reqsession.LookedUp {
		if rec, err = get(ctx, s.oldKey); errors.Is(err, ErrNotFound) && FateOf(err) == FateUnknown {
			var loaded OldSession
			if loaded, err = s.m.opts.Old.Load(ctx, s.oldToken); err == nil {
				found = &loaded
			} else if errors.Is(err, ErrNotFound) {
				return reqsession.Stranger
			}
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return reqsession.Unanswered
		}
		return reqsession.Met
	})
	if ended != nil {
		return rec, nil, ended
	}
	return rec, found, err
}

// claim puts an old session into the store, unless it has been there. It is ErrNotFound
// if it has ended in the old place since it was loaded.
func (s *Session) claim(ctx context.Context, from OldSession) (rec Record, err error) {
	values := make(map[string]json.RawMessage, len(from.Values))
	for key, v := range from.Values {
		if err := checkKey(key); err != nil {
			return Record{}, err
		}
		if values[key], err = encodeValue(key, v); err != nil {
			return Record{}, err
		}
	}
	d := s.draft("", nil)
	if from.User != "" {
		if err := checkLogin(from.User, ""); err != nil {
			return Record{}, err
		}
		d = s.draft(s.m.stored(from.User), nil)
		d.head.loggedIn = max(from.LoggedInAt.Unix(), 1)
	}
	data, err := s.m.encode(s.m.bound(s.oldKey, d.user), d.head, values)
	if err != nil {
		return Record{}, err
	}
	if err := timed(func() error {
		rec = Record{Key: s.oldKey, User: d.user, Data: data, Deadline: earlier(from.Deadline, d.deadline())}
		rec.Expires = earlier(s.m.expiry(d.policy), rec.Deadline)
		rec, err = s.m.store.Create(ctx, rec)
		return err
	}); err != nil {
		return Record{}, err
	}
	if _, err := s.m.opts.Old.Load(ctx, s.oldToken); err != nil {
		if !errors.Is(err, ErrNotFound) {
			return Record{}, err
		}
		if _, err := s.m.store.Destroy(ctx, s.oldKey); err != nil {
			return Record{}, err
		}
		return Record{}, NotFound(FateEnded)
	}
	s.happened(Event{Kind: EventCreated, Key: rec.Key, User: from.User, Reason: ReasonTakenOver})
	return rec, nil
}

// earlier is the earlier one of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// byOldToken reports whether the session has no ID yet that the browser could be given.
func (s *Session) byOldToken() bool {
	return !s.oldKey.IsZero() && s.rec.Key.Hash == s.oldKey.Hash
}

// oldGrace is for how long at least requests come to their session by the old token.
const oldGrace = time.Minute
