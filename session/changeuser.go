package session

import (
	"context"
	"errors"
	"fmt"
)

// Changes is what came of ChangeUser.
type Changes struct {
	// Changed are the sessions that have the change, by their present keys. Those
	// of which there was nothing to change are among them.
	Changed []Key
	// Ended are those that had ended before they could be changed, or had got
	// another key: that is among Changed then.
	Ended []Key
	// Failed are those that cannot be changed.
	Failed []FailedChange
}

// FailedChange is a session that cannot be changed: Err is ErrUndecodable,
// ErrTooLarge, ErrInvalid or, after FailOnConflict, ErrConflict.
type FailedChange struct {
	Key Key
	Err error
}

// ChangeUser changes values in all live sessions of a user, as when the user has got
// another role. It calls change with each of them, one after the other, and saves
// what that has done, as OpenKey and End would. A session that logs in again
// meanwhile may be changed twice, and one that begins meanwhile may be missed: first
// change what logins go by, and then the sessions.
//
// No update is lost: where others have saved meanwhile, on whichever node, the
// changes are made to what they have saved. Requests that have loaded the session
// before go on with what they have loaded, but for that of ctx; when they save, the
// change stays, unless they set the same value or clear the session. Requests that
// begin when ChangeUser has returned see the change, on this node at once and on others
// as the store promises; a NodeWaiter can be asked to wait for those.
//
// The error is nil if all of the user's sessions have the change. Sessions that have
// ended are no error. With an error, Changes tells what has been done till then: it
// goes on after a session of Failed, and stops at an error of change, which it
// returns, of ctx or of the store. If that is ErrUnknown, one session more may have the
// change. It is errors.ErrUnsupported if the store is no UserIndex.
func (m *Manager) ChangeUser(ctx context.Context, user string, change func(*Session) error) (Changes, error) {
	var done Changes
	seen := map[string]bool{} // by handle, which a renewal leaves alone
	gone := map[Key]bool{}
	for more := true; more; { // a renewal may hide a session from a list
		more = false
		for rec, err := range m.ofUser(ctx, user) {
			if err != nil {
				return done, err
			}
			handle := handleIn(rec)
			if seen[handle] || gone[rec.Key] {
				continue
			}
			more = true
			ended, err := m.changeOne(ctx, rec, change, &done)
			if err != nil {
				return done, err
			}
			seen[handle], gone[rec.Key] = !ended, ended
		}
	}
	if len(done.Failed) > 0 {
		return done, fmt.Errorf("session: %d sessions of the user are not changed, the first one: %w", len(done.Failed), done.Failed[0].Err)
	}
	return done, nil
}

// changeOne reports whether the session has ended, or got another key.
func (m *Manager) changeOne(ctx context.Context, rec Record, change func(*Session) error, done *Changes) (ended bool, err error) {
	s, err := m.openRecord(ctx, rec)
	if err == nil {
		if err = change(s); err == nil {
			err = s.End(ctx)
		} else if !errors.Is(err, ErrNotFound) && !ofOneSession(err) {
			return false, err
		}
	}
	key := rec.Key
	if s != nil {
		key = s.Key()
	}
	switch {
	case errors.Is(err, ErrNotFound), err == nil && key.IsZero():
		done.Ended = append(done.Ended, rec.Key)
		return true, nil
	case err == nil:
		done.Changed = append(done.Changed, key)
	case ofOneSession(err):
		done.Failed = append(done.Failed, FailedChange{rec.Key, err})
	default:
		return false, err
	}
	return false, nil
}

// ofOneSession reports whether the same may go well with other sessions.
func ofOneSession(err error) bool {
	for _, one := range []error{ErrUndecodable, ErrTooLarge, ErrInvalid, ErrConflict} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}
