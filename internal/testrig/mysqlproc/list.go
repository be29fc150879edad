// Package mysqlproc lists the connections of a MariaDB or MySQL server.
package mysqlproc

import (
	"context"
	"database/sql"
)

// Process is a connection as the server lists it. Who has no right to see all
// (PROCESS) is shown those of the same user.
type Process struct {
	ID         int64
	User, Host string
	Database   string // empty if it has selected none
	Info       string // its statement; empty while it has none
}

// Querier is what List needs of a *sql.DB, *sql.Conn or *sql.Tx.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// List does not read information_schema.processlist: there MySQL fails (error
// 3854) as long as anybody on the server runs a statement whose text it cannot
// convert.
func List(ctx context.Context, db Querier) (all []Process, err error) {
	rows, err := db.QueryContext(ctx, `SHOW FULL PROCESSLIST`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var p Process
		var database, info sql.NullString
		into := make([]any, max(len(columns), 8))
		for i := range into {
			into[i] = new(any)
		}
		into[0], into[1], into[2], into[3], into[7] = &p.ID, &p.User, &p.Host, &database, &info
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		p.Database, p.Info = database.String, info.String
		all = append(all, p)
	}
	return all, rows.Err()
}
