// Package mysqlconn sets up connections to MariaDB and MySQL.
package mysqlconn

import (
	"context"
	"database/sql"
	"strconv"
	"time"
)

// IdleTimeout is how long a connection that SetUp has set up may have nothing to do.
// Then the server ends it, and what it has locked: nobody may be there any more.
const IdleTimeout = 20 * time.Second

// SetUp has a connection do what is expected of it, whatever its DSN, the user and
// the server say. Its statements wait for the lock of a row for so many seconds.
// The level of isolation stays as it is. The connection is no good to others then.
func SetUp(ctx context.Context, conn *sql.Conn, charset string, lockWait int) error {
	for _, sql := range []string{
		`SET NAMES ` + charset,
		`ROLLBACK AND NO CHAIN NO RELEASE`, // an earlier user of the connection may have left something
		// DEFAULT would be what the server says.
		`SET SESSION autocommit = 1, completion_type = 0, time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES',
  sql_safe_updates = 0, sql_select_limit = 18446744073709551615, innodb_lock_wait_timeout = ` + strconv.Itoa(lockWait) + `,
  wait_timeout = ` + strconv.Itoa(int(IdleTimeout.Seconds())) + `
  /*!80000 , max_execution_time = 0 */ /*M! , max_statement_time = 0 */`,
		`SET SESSION TRANSACTION READ WRITE`,
	} {
		if _, err := conn.ExecContext(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}
