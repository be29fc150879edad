package direct

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sojourn-go/sojourn/internal/deadpeer"
)

// cancelTimeout limits a cancel request, to which pgx gives 15 seconds: it would
// keep a goroutine alive for as long after a network failure.
const cancelTimeout = time.Second

// dialer makes dial's connections notice a dead peer within about ten seconds,
// and those that are made once the session is open, to cancel a statement, give
// up early or at once.
func dialer(dial pgconn.DialFunc, opened *atomic.Bool, noCancel bool) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		switch {
		case opened.Load() && noCancel:
			return nil, errors.New("direct: nothing to cancel")
		case opened.Load():
			deadline := time.Now().Add(cancelTimeout)
			limited, stop := context.WithDeadline(ctx, deadline)
			defer stop()
			conn, err := dial(limited, network, addr)
			if err == nil {
				// One that cannot be set is missed by nobody: ctx ends soon too.
				_ = conn.SetDeadline(deadline)
			}
			return conn, err
		}
		conn, err := dial(ctx, network, addr)
		if err == nil {
			deadpeer.Detect(conn)
		}
		return conn, err
	}
}
