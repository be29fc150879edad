package mysqllock

import (
	"context"
	"database/sql"
	"fmt"
	"net"

	"github.com/sojourn-go/sojourn/internal/testrig/mysqlproc"
	"github.com/sojourn-go/sojourn/leader"
)

// Info describes the session that leads.
type Info struct {
	// ID is the number of the connection, as in SHOW PROCESSLIST.
	ID int64
	// Name is what the session calls itself. It is empty where the server keeps
	// no performance schema (MariaDB keeps none unless told to), and to another
	// user than the leader's.
	Name string
	// User and ClientAddr are its user and the address it connects from. The
	// address is empty for a Unix socket, and both are to another user that has
	// no right to see all sessions (PROCESS).
	User, ClientAddr string
}

// Querier is what [Holder] needs of a *sql.DB, *sql.Conn or *sql.Tx.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Holder asks the server which session holds the lock of [New] with this
// key. It returns [leader.ErrNoLeader] when none does.
func Holder(ctx context.Context, db Querier, key int64) (Info, error) {
	var id sql.NullInt64
	if err := db.QueryRowContext(ctx, holderSQL(lockName(key))).Scan(&id); err != nil {
		return Info{}, fmt.Errorf("mysqllock: holder: %w", err)
	}
	if !id.Valid {
		return Info{}, leader.ErrNoLeader
	}
	info := Info{ID: id.Int64}
	all, err := mysqlproc.List(ctx, db)
	if err != nil {
		return Info{}, fmt.Errorf("mysqllock: holder: %w", err)
	}
	for _, p := range all {
		if p.ID != info.ID {
			continue
		}
		info.User = p.User
		if addr, _, err := net.SplitHostPort(p.Host); err == nil {
			info.ClientAddr = addr
		}
	}
	// Not every server has the table, and not every user may read it.
	err = db.QueryRowContext(ctx, programSQL(info.ID)).Scan(&info.Name)
	if err != nil && ctx.Err() != nil {
		return Info{}, fmt.Errorf("mysqllock: holder: %w", err)
	}
	return info, nil
}
