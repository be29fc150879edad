package direct

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	pingTimeout    = time.Second
	connectTimeout = 5 * time.Second
)

// Harden makes a pool get rid of connections whose peer has fallen silent. By
// default a pool may wait for such a one for ever, and for 15 seconds more
// before another takes its place. Timeouts that are set stay as they are.
func Harden(config *pgxpool.Config) {
	config.PingTimeout = cmp.Or(config.PingTimeout, pingTimeout)
	config.ConnConfig.ConnectTimeout = cmp.Or(config.ConnConfig.ConnectTimeout, connectTimeout)
	before := config.BeforeConnect
	config.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		if before != nil {
			if err := before(ctx, c); err != nil {
				return err
			}
		}
		opened := new(atomic.Bool)
		c.DialFunc = dialer(c.DialFunc, opened, false)
		after := c.AfterConnect
		c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
			opened.Store(true)
			if after == nil {
				return nil
			}
			return after(ctx, conn)
		}
		return nil
	}
	closing := config.BeforeClose
	config.BeforeClose = func(conn *pgx.Conn) {
		if closing != nil {
			closing(conn)
		}
		if conn.IsClosed() { // it broke: pgx still waits for a last word of the server
			Break(conn)
		}
	}
}

// Break closes what a connection is sent over, whoever is using it.
func Break(conn *pgx.Conn) { wireOf(conn).Close() }

// wireOf is what is below TLS, which would say goodbye.
func wireOf(conn *pgx.Conn) net.Conn {
	wire := conn.PgConn().Conn()
	if secure, ok := wire.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return wire
}
