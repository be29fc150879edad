package pglock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/leader"
)

// Info describes the session that leads.
type Info struct {
	// PID is the number of the server process, as in pg_stat_activity.
	PID int32
	// ApplicationName is what the session calls itself; empty when it has just
	// gone.
	ApplicationName string
	// ClientAddr is the address it connects from. Empty for a Unix socket, and to
	// a role that may not see it (a member of the leader's role or of
	// pg_read_all_stats may).
	ClientAddr string
	// Since is when it connected: it may have followed before it led. Zero where
	// ClientAddr may not be seen.
	Since time.Time
}

// QueryRower is what [Holder] needs of a pool, a connection or a transaction.
type QueryRower interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Holder asks Postgres which session holds the lock with this key in the
// database that db is connected to. It returns [leader.ErrNoLeader] when none does. It
// works through poolers too.
func Holder(ctx context.Context, db QueryRower, key int64) (Info, error) {
	var (
		info  Info
		since *time.Time
	)
	classid, objid := halves(key)
	err := db.QueryRow(ctx, holderSQL, pgx.QueryExecModeExec, classid, objid).
		Scan(&info.PID, &info.ApplicationName, &info.ClientAddr, &since)
	if errors.Is(err, pgx.ErrNoRows) {
		return Info{}, leader.ErrNoLeader
	}
	if err != nil {
		return Info{}, fmt.Errorf("pglock: holder: %w", err)
	}
	if since != nil {
		info.Since = since.UTC()
	}
	return info, nil
}
