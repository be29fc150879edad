package mysqllock

import (
	"fmt"
	"strconv"
	"time"
)

// lockName has only characters that need no quoting. The limit is 64
// characters.
func lockName(key int64) string { return fmt.Sprintf("leader:%016x", uint64(key)) }

// Comments that begin with /*!80000 are for MySQL alone, those with /*M! for
// MariaDB: it ignores the numbers of MySQL's versions after 5.7.
const (
	// takesWrites: the variables are numbers or words, as the version has it.
	takesWrites = `(concat(@@global.read_only) IN ('0', 'OFF') AND concat(@@global.innodb_read_only) IN ('0', 'OFF')
  /*!80000 AND NOT @@session.transaction_read_only *//*M! AND NOT @@session.tx_read_only */)`

	identifySQL = `SELECT connection_id(), ` + takesWrites

	// It fails inside of a transaction and changes nothing outside.
	outsideSQL = `SET TRANSACTION READ WRITE`
)

// unlimitSQL: no timeout of the server may end the session or a statement
// but that for a silent one, in whole seconds.
func unlimitSQL(silence time.Duration) string {
	const most = 31536000
	seconds := strconv.FormatInt(min(most, int64((silence+time.Second-1)/time.Second)), 10)
	return `
SET SESSION autocommit = 1, wait_timeout = ` + seconds + `, interactive_timeout = ` + seconds + `, net_read_timeout = 60, net_write_timeout = 60
  /*!80000 , max_execution_time = 0 */
  /*M! , max_statement_time = 0, idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0, idle_write_transaction_timeout = 0 */`
}

// tryLockSQL: the condition keeps from locking a proxy's connection, where
// the lock would stay, or a replica. With 0 seconds GET_LOCK does not wait.
func tryLockSQL(lock string, id int64) string {
	return fmt.Sprintf(`
SELECT me.id, me.writes, if(me.id = %d AND me.writes, get_lock('%s', 0), 0)
  FROM (SELECT connection_id() AS id, %s AS writes) AS me`, id, lock, takesWrites)
}

func verifySQL(lock string) string {
	return `
SELECT connection_id(), ` + takesWrites + `, @@session.autocommit, coalesce(is_used_lock('` + lock + `') = connection_id(), 0)`
}

func holdsSQL(lock string, id int64) string {
	return fmt.Sprintf(`SELECT coalesce(is_used_lock('%s') = %d, 0)`, lock, id)
}

func holderSQL(lock string) string { return `SELECT is_used_lock('` + lock + `')` }

func programSQL(id int64) string {
	return fmt.Sprintf(`
SELECT attr_value FROM performance_schema.session_account_connect_attrs
 WHERE processlist_id = %d AND attr_name = 'program_name'`, id)
}
