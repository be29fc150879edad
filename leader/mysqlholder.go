package leader

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
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

// MySQLQueryRower is what [MySQLHolder] needs of a *sql.DB, *sql.Conn or *sql.Tx.
type MySQLQueryRower interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// MySQLHolder asks the server which session holds the lock of [MySQL] with this
// key. It returns [ErrNoLeader] when none does. MySQL cannot say (error 3854)
// while a statement is under way, anybody's, whose text it cannot show.
func MySQLHolder(ctx context.Context, db MySQLQueryRower, key int64) (MySQLInfo, error) {
	var (
		info MySQLInfo
		host string
	)
	err := db.QueryRowContext(ctx, mysqlHolderSQL(lockName(key))).Scan(&info.ID, &info.User, &host)
	if errors.Is(err, sql.ErrNoRows) {
		return MySQLInfo{}, ErrNoLeader
	}
	if err != nil {
		return MySQLInfo{}, fmt.Errorf("leader: holder: %w", err)
	}
	if addr, _, err := net.SplitHostPort(host); err == nil {
		info.ClientAddr = addr
	}
	// Not every server has the table, and not every user may read it.
	err = db.QueryRowContext(ctx, mysqlProgramSQL(info.ID)).Scan(&info.Name)
	if err != nil && ctx.Err() != nil {
		return MySQLInfo{}, fmt.Errorf("leader: holder: %w", err)
	}
	return info, nil
}
