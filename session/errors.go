package session

import (
	"errors"
	"slices"
)

// The errors of a Store. Match them with errors.Is: stores wrap them with the
// operation and, where there is one, the driver's error.
var (
	// ErrNotFound says that there is no live session of that key: it was never
	// created, was ended or renewed, or has expired. These cases are not told
	// apart.
	ErrNotFound = errors.New("session: not found")

	// ErrExists says that Create was given a key that is already in use,
	// whether its session is live or dead.
	ErrExists = errors.New("session: key exists")

	// ErrConflict says that the session was written since the version the
	// caller had read, or was renewed and is still in its grace period. Get it
	// again and repeat the change.
	ErrConflict = errors.New("session: version conflict")

	// ErrUserChanged says that a write would have given the session to another
	// user. Renew does that.
	ErrUserChanged = errors.New("session: user changed")

	// ErrUserLimit says that the user already has as many sessions as the
	// limit allows.
	ErrUserLimit = errors.New("session: too many sessions of this user")

	// ErrDeadline says that a new session's deadline has passed or lies beyond
	// the store's longest lifetime, or that its expiry has passed or lies
	// beyond its deadline.
	ErrDeadline = errors.New("session: deadline out of range")

	// ErrTooLarge says that the data or the user is longer than the store's
	// limit. Nothing was written.
	ErrTooLarge = errors.New("session: too large")

	// ErrInvalid says that an argument can never be right: a key of the wrong
	// shape, a user that is not UTF-8, a negative duration. Nothing was sent
	// to the database.
	ErrInvalid = errors.New("session: invalid argument")

	// ErrInvalidID says that a text is not a session ID, or is one that no
	// store can hold at this time. The text is not part of the error.
	ErrInvalidID = errors.New("session: invalid ID")

	// ErrUnknown says that the outcome of a write could not be determined: it
	// may or may not have happened. It wraps the cause.
	ErrUnknown = errors.New("session: outcome unknown")

	// ErrOverloaded says that the store holds as many writes as it may, and
	// that no room came free in time. The database does not keep up or does not
	// answer. The write was not done.
	ErrOverloaded = errors.New("session: too many writes under way")

	// ErrNoPartition says that the database has no place for a session of that
	// deadline and that this node may not make one.
	ErrNoPartition = errors.New("session: no partition for this deadline")

	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("session: store closed")
)

// NotFound returns an ErrNotFound that FateOf tells more of. A store that is an
// Explainer returns it from Get.
func NotFound(fate Fate) error {
	if fate == FateUnknown {
		return ErrNotFound
	}
	return &notFound{fate}
}

type notFound struct{ fate Fate }

func (*notFound) Error() string { return ErrNotFound.Error() }

func (*notFound) Unwrap() error { return ErrNotFound }

// FateOf returns what became of a session for which a store's Get is ErrNotFound.
// It is FateUnknown if the store found nothing of it, or cannot tell.
func FateOf(err error) Fate {
	if known, ok := errors.AsType[*notFound](err); ok {
		return known.fate
	}
	return FateUnknown
}

// kindOf is which of the errors of this package err is, for logs that count them.
func kindOf(err error) string {
	known := []error{
		ErrNotFound, ErrExists, ErrConflict, ErrUserChanged, ErrUserLimit, ErrDeadline, ErrTooLarge, ErrInvalid, ErrInvalidID, ErrUnknown,
		ErrOverloaded, ErrNoPartition, ErrClosed, ErrTooLate, ErrInsecure, ErrMisplaced, ErrUndecodable, ErrDegraded,
		ErrCSRF, ErrNoManager,
	}
	if i := slices.IndexFunc(known, func(one error) bool { return errors.Is(err, one) }); i >= 0 {
		return known[i].Error()
	}
	return ""
}

// The errors of a Manager and of the sessions it gives to handlers, beside
// those of its store.
var (
	// ErrNoManager says that a context comes neither from a Manager's Handler nor
	// from NewContext.
	ErrNoManager = errors.New("session: no manager for this context")

	// ErrTooLate says that the browser can no longer be given a cookie: the answer
	// has begun, the connection is hijacked, or the request's context has ended.
	// Or it says that the request is over.
	ErrTooLate = errors.New("session: the answer has begun")

	// ErrInsecure says that the browser would not take the cookie, which is
	// Secure, as the request came over plain HTTP from another machine.
	ErrInsecure = errors.New("session: Secure cookie over plain HTTP")

	// ErrMisplaced says that the cookie is for another host or path than the
	// request's, so that the browser would not take it, or not send it back there.
	ErrMisplaced = errors.New("session: cookie for another host or path")

	// ErrUndecodable says that the data of a session cannot be decoded: another
	// program or another Codec has made it.
	ErrUndecodable = errors.New("session: undecodable data")

	// ErrDegraded says that the session could not be read and the request is
	// served without it (see Options.AnonymousOnOutage), so that it cannot be
	// changed.
	ErrDegraded = errors.New("session: served without the store")

	// ErrCSRF says that a request has no CSRF token of its session: another site may
	// have had the browser send it.
	ErrCSRF = errors.New("session: no valid CSRF token")

	// ErrNoUser says that the session has no user, where it takes one.
	ErrNoUser = errors.New("session: no user")
)
