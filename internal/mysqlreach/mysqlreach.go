// Package mysqlreach is package reach for those who may have MariaDB or MySQL.
package mysqlreach

import (
	"context"
	"errors"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/reach"
)

// Database is [reach.Database] for every database that database/sql leads to.
func Database(ctx context.Context, try func(context.Context) error) error {
	return reach.While(ctx, Heals, try)
}

// Heals is [reach.Heals] for every database that database/sql leads to.
func Heals(err error) bool {
	if answer, ok := errors.AsType[*mysql.MySQLError](err); ok {
		switch answer.Number {
		case 1040, 1203, // too many connections
			1053, 1077, 1079, 1927, 3169, 4031, // it stops, or has ended the connection
			1158, 1159, 1160, 1161: // the network
			return true
		}
		return false
	}
	return errors.Is(err, mysql.ErrInvalidConn) || reach.Heals(err)
}
