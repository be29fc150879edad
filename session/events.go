package session

import (
	"context"
	"net/http"

	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// EventKind says what happened to a session.
type EventKind int

// The kinds of events.
const (
	// EventCreated: a session began. User is set if it began with a login, or was
	// taken over with its user.
	EventCreated EventKind = iota + 1
	// EventRenewed: the session Old got the new ID of Key. User is set if the
	// session has one, Reason is ReasonLogin if that is new or logged in again.
	EventRenewed
	// EventDestroyed: Reason says why. Where sessions of a user were ended
	// together, Key is zero and Count says how many.
	EventDestroyed
	// EventExpired: a request came with the ID of a session that has expired. One
	// that the store has forgotten since is told only if its cookie is signed:
	// without Cookie.SigningKeys anybody could make up such an ID.
	EventExpired
	// EventEnded: a request came with the ID of a session that was ended, or
	// renewed, before.
	EventEnded
	// EventUnknownID: a request came with an ID of which the store knows no
	// session: a guess, or a leftover of one that is forgotten. Many from one
	// source are an attack. If the store is no Explainer, it may be an
	// EventExpired or EventEnded too.
	EventUnknownID
	// EventInvalidID: a request's cookie was no ID at all, or its signature
	// was wrong. Key is zero.
	EventInvalidID
	// EventSaveDropped: a request's changes were dropped, as the session ended
	// while it was under way.
	EventSaveDropped
	// EventUndecodable: the data of the session cannot be decoded; Err says
	// why. The request got an empty session or an error, as
	// Options.FailUndecodable says.
	EventUndecodable
	// EventTouchFailed: the idle timeout could not be postponed; Err says why.
	EventTouchFailed
	// EventRenewFailed: an ID that was due could not be replaced; Err says
	// why. The next request tries again.
	EventRenewFailed
	// EventSaveFailed: what a handler changed after its answer had begun could
	// not be saved; Err says why.
	EventSaveFailed
	// EventCSRF: a request had no valid CSRF token, as Err says. It may be another
	// site's, or of a page from before a login.
	EventCSRF
)

var eventNames = [...]string{
	EventCreated: "created", EventRenewed: "renewed", EventDestroyed: "destroyed", EventExpired: "expired", EventEnded: "ended",
	EventUnknownID: "unknown ID", EventInvalidID: "invalid ID", EventSaveDropped: "save dropped",
	EventUndecodable: "undecodable", EventTouchFailed: "touch failed", EventRenewFailed: "renewal failed",
	EventSaveFailed: "late save failed", EventCSRF: "no valid CSRF token",
}

// String returns a name such as "created".
func (k EventKind) String() string {
	if k <= 0 || int(k) >= len(eventNames) {
		return "unknown"
	}
	return eventNames[k]
}

// Reason says why a session was created, destroyed or renewed.
type Reason string

// The reasons.
const (
	// ReasonLogin: its user logged in.
	ReasonLogin Reason = "login"
	// ReasonTakenOver: it began as a session of Options.Old, in an EventCreated.
	ReasonTakenOver Reason = "taken over"
	// ReasonLogout: the handler of one of its requests called Destroy,
	// DestroyOnAllNodes or Logout.
	ReasonLogout Reason = "logout"
	// ReasonRevoked: Revoke, RevokeOthers or RevokeUser ended it.
	ReasonRevoked Reason = "revoked"
	// ReasonLimit: another login of the user had to be made room for.
	ReasonLimit Reason = "limit"
)

// Event is something that happened to a session. It has no ID in it and may be
// logged.
type Event struct {
	Kind EventKind
	// Key is the session's. In an EventRenewed it is the new key, and Old the
	// one before.
	Key, Old Key
	User     string
	Reason   Reason
	Count    int64
	Err      error
}

// emit tells the hook, without a lock. r is nil if no request is concerned.
func (m *Manager) emit(ctx context.Context, r *http.Request, events ...Event) {
	reqsession.Emit(ctx, m.opts.OnEvent, m.log, r, events)
}
