package invalidation

import (
	"errors"

	"github.com/sojourn-go/sojourn/internal/pooled"
)

var (
	// ErrLapsed says that no heartbeat came back in time.
	ErrLapsed = errors.New("invalidation: no heartbeat came back within the lease")

	// ErrPooled says that the connection that has to listen goes through a
	// pooler. LISTEN does nothing there.
	ErrPooled = pooled.Err

	// ErrOtherServer says that heartbeats are sent through another server than
	// the one that is listened to: one of them was replaced, is a standby's
	// former primary, or was never meant.
	ErrOtherServer = errors.New("invalidation: another server is written to than is listened to")

	// ErrOtherDatabase says that heartbeats are sent in another database than the
	// one that is listened to. Notifications stay within one.
	ErrOtherDatabase = errors.New("invalidation: another database is written to than is listened to")

	// ErrNoEcho says that heartbeats are committed and do not come back, nobody
	// knows why.
	ErrNoEcho = errors.New("invalidation: heartbeats are committed, but none has come back")
)
