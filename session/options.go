package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// Options are a Manager's settings. The zero Options work. They print as a
// placeholder, as a Codec may hold a key.
type Options struct {
	placeholder
	// Name keeps this manager's sessions apart from the sessions of other
	// managers, on the same store too. Their cookies, users and limits have
	// nothing to do with each other. It has up to 32 of the characters a-z,
	// 0-9, "_" and "-". Empty is a name like any other.
	Name string
	// Policy is for how long sessions last.
	Policy Policy
	// Cookie is what the cookie is like.
	Cookie Cookie
	// TouchInterval is how much of the idle timeout may pass before a request
	// that changes nothing postpones it again. 0 is a tenth of the idle timeout,
	// at most a minute; negative is with each request. The actual interval
	// is up to a quarter shorter, at random.
	TouchInterval time.Duration
	// UserLimit is how many sessions a user may have. It holds against all
	// concurrent logins. The store must be a UserIndex.
	UserLimit UserLimit

	// Codec makes the bytes that the store keeps of a session's values. nil is
	// JSON. The user, and what is known of the login, stand in clear beside them.
	Codec Codec
	// FailUndecodable answers a request whose session cannot be decoded
	// through ErrorHandler. Without it such a session is like none: the
	// request gets an empty one, and what cannot be decoded stays in the store
	// until it expires.
	FailUndecodable bool
	// Old is where the application had its sessions before. A request that has no
	// session here, and the cookie of one there, is given that one: its user stays
	// logged in. It is read there once, becomes one of this store with a new ID, and is
	// ended there; of parallel requests one does that. It keeps its login, its values
	// and its end, as far as Policy allows, and no UserLimit counts then. One that has
	// ended here is not read again. Manager.Open knows no old tokens. The store must be
	// an Explainer. nil is none.
	Old Old
	// SaveUninitialized stores a session for each visitor whose request asks
	// for one, also if it stays empty. It is what express-session does by
	// default: a row for each robot.
	SaveUninitialized bool

	// ErrorHandler answers a request that failed because of its session; err
	// says why. What the handler had set in the header is gone, what it writes
	// is not sent. nil answers 503 when the store cannot be reached, 409 after
	// ErrConflict and ErrUserLimit, 403 after ErrCSRF and 500 after mistakes of the
	// program, and logs.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)
	// AnonymousOnOutage serves requests whose session cannot be read as if
	// they had none, so that pages that need no user stay up; Session.Degraded
	// tells. Their cookie is left alone, and changing the session is an error.
	AnonymousOnOutage bool
	// OnEvent, if not nil, is told what happens to sessions: for a log of
	// logins and attacks. It is called in the request's goroutine, with its
	// context where there is one, and may be called concurrently. If it panics,
	// that is logged, and the request goes on.
	OnEvent func(context.Context, Event)
	// Address, if not nil, returns the address of the browser, of which a
	// login keeps the network: 24 bits of an IPv4 address, 48 of an IPv6 one.
	// Behind a proxy it has to come from a header that the proxy sets.
	Address func(*http.Request) netip.Addr
	// RecordAgent has a login keep the first 200 bytes of User-Agent.
	RecordAgent bool
	// HTTPS reports whether the browser sent the request over HTTPS. It serves
	// a clear error where the cookie would be lost, see ErrInsecure. nil asks
	// for TLS, or a header X-Forwarded-Proto or Forwarded that says https or wss.
	HTTPS func(*http.Request) bool
	// Logger is told of failures: of a kind that goes on the first one at once,
	// with the method and the path of its request, and then every ten seconds how
	// many more there were. If it is nil, warnings and errors go to the default
	// logger of log/slog; zap.NewNop() silences them.
	Logger *zap.Logger
}

const maxNameLen = 32

func (o Options) check() error {
	if len(o.Name) > maxNameLen {
		return fmt.Errorf("%w: Options.Name has %d characters; it must not have more than %d", ErrInvalid, len(o.Name), maxNameLen)
	}
	for _, c := range o.Name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return fmt.Errorf("%w: Options.Name has the character %q; it must have a-z, 0-9, _ and - only", ErrInvalid, c)
		}
	}
	if o.UserLimit.Max < 0 {
		return fmt.Errorf("%w: Options.UserLimit.Max is %d; it must not be negative", ErrInvalid, o.UserLimit.Max)
	}
	return nil
}

// touchAfter is how long after its last touch a session is touched again.
func (o Options) touchAfter(idle time.Duration) time.Duration {
	after := min(o.TouchInterval, idle/2) // a session's own policy may have a shorter one
	switch {
	case after < 0:
		return 0
	case after == 0:
		after = min(idle/10, time.Minute)
	}
	return after - rand.N(after/4+1)
}
