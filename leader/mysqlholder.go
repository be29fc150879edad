package leader

import (
	"context"
	"database/sql"
	"fmt"
	"net"

	"github.com/sojourn-go/sojourn/internal/mysqlproc"
)

// MySQLInfo describes the session that leads.
type MySQLInfo struct {
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

// MySQLQuerier is what [MySQLHolder] needs of a *sql.DB, *sql.Conn or *sql.Tx.
type MySQLQuerier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// MySQLHolder asks the server which session holds the lock of [MySQL] with this
// key. It returns [ErrNoLeader] when none does.
func MySQLHolder(ctx context.Context, db MySQLQuerier, key int64) (MySQLInfo, error) {
	var id sql.NullInt64
	if err := db.QueryRowContext(ctx, mysqlHolderSQL(lockName(key))).Scan(&id); err != nil {
		return MySQLInfo{}, fmt.Errorf("leader: holder: %w", err)
	}
	if !id.Valid {
		return MySQLInfo{}, ErrNoLeader
	}
	info := MySQLInfo{ID: id.Int64}
	all, err := mysqlproc.List(ctx, db)
	if err != nil {
		return MySQLInfo{}, fmt.Errorf("leader: holder: %w", err)
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
	err = db.QueryRowContext(ctx, mysqlProgramSQL(info.ID)).Scan(&info.Name)
	if err != nil && ctx.Err() != nil {
		return MySQLInfo{}, fmt.Errorf("leader: holder: %w", err)
	}
	return info, nil
}
