package leader

import (
	"errors"

	"github.com/sojourn-go/sojourn/internal/pooled"
)

var (
	// ErrLost is in the cause of a leading context that ended because the lock
	// may be gone. The connection broke, the lock was not found, the server did
	// not answer in time, or [Term.Do] went over its limit.
	ErrLost = errors.New("leader: leadership lost")

	// ErrPooled is returned by [Run] when something between this process and the
	// server hands statements of one connection to different server sessions. A
	// session's lock is worthless there; connect directly. Retrying does not
	// help, so Run ends.
	ErrPooled = pooled.Err

	// ErrNoLeader is returned by Holder of pglock and mysqllock when nobody holds
	// the lock.
	ErrNoLeader = errors.New("leader: nobody leads")
)
