package pgstore

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/direct"
)

// ConfigurePool prepares the configuration of a pool for New, before the pool
// is made. The pool's connections then notice a peer that has fallen silent,
// behind a firewall that forgot them or after a host that is gone. They give
// their place in the pool back within about a second. Without ConfigurePool pgx
// may wait for such a peer for ever, and 15 s more before another connection
// takes the place. ConfigurePool adds to DialFunc and AfterConnect of
// ConnConfig, both by way of BeforeConnect, and to BeforeClose. It sets
// PingTimeout to 1 s and ConnectTimeout to 5 s where they are zero.
//
// The store gets along without ConfigurePool, on connections of its own, which
// have all of this. The application's own queries do not. New logs a warning
// about a pool without a PingTimeout.
func ConfigurePool(config *pgxpool.Config) { direct.Harden(config) }

// adviseOnPool says what the pool lacks.
func adviseOnPool(log *zap.Logger, pool *pgxpool.Pool) {
	if pool.Config().PingTimeout == 0 {
		log.Warn("the pool has no PingTimeout, so connections that have fallen silent can hold up the application's own queries; " +
			"pgstore.ConfigurePool sets up a pool that replaces them")
	}
}
