package mysqlstore

import (
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/session"
)

// The errors of this package, beside those of package session and of
// migrations/mysql. They wrap the driver's error. A write that fails with one of
// them has changed nothing, unless it is session.ErrUnknown too.
var (
	// ErrFull says that the server has no room left. Sessions can still be read.
	ErrFull = errors.New("mysqlstore: no room left")

	// ErrReadOnly says that the server takes no writes: it is a replica, or was
	// set to read only.
	ErrReadOnly = errors.New("mysqlstore: the server is read-only")

	// ErrLocked says that others kept a row locked for as long as the write
	// could wait.
	ErrLocked = errors.New("mysqlstore: a row is locked by another connection")

	// ErrBusy says that the server takes no more connections.
	ErrBusy = errors.New("mysqlstore: too many connections")

	// ErrDamaged says that the tables hold what no store has written, or lack what
	// they have held from the start.
	ErrDamaged = errors.New("mysqlstore: damaged row")

	// ErrUnsuitable says that a *sql.DB, or the server that it leads to, is not
	// what New needs.
	ErrUnsuitable = errors.New("mysqlstore: unsuitable database")

	// ErrSettings says that the nodes that use the table have agreed on another
	// setting than the one given.
	ErrSettings = errors.New("mysqlstore: other settings than those of the other nodes")
)

// notDone marks an error after which nothing can have been committed.
type notDone struct{ error }

func (e notDone) Unwrap() error { return e.error }

// txOutcome is what an error says about the transaction that failed with it.
type txOutcome int

const (
	txFailed   txOutcome = iota // nothing was written, and repeating it would not help
	txOpen                      // the answer was lost: it may have been committed
	txConflict                  // nothing was written, because of others: repeat it
	txCut                       // nothing was written, the connection was lost or there was none: try another one
	txBusy                      // the server takes no more connections now
	txLocked                    // a row stayed locked
	txReadOnly                  // the server is read-only; another one may not be
	txItem                      // nothing was written, because of one of the items
)

// The servers' error numbers (dev.mysql.com/doc/mysql-errors,
// mariadb.com/kb/en/mariadb-error-code-reference).
const (
	errDuplicate  = 1062
	errPacketSize = 1153
)

var txOutcomes = map[uint16]txOutcome{
	1213: txConflict, // ER_LOCK_DEADLOCK
	1614: txConflict, // ER_XA_RBDEADLOCK
	1020: txConflict, // ER_CHECKREAD: MariaDB, changed since the snapshot
	3101: txConflict, // ER_TRANSACTION_ROLLBACK_DURING_COMMIT
	1615: txConflict, // ER_NEED_REPREPARE
	1243: txCut,      // ER_UNKNOWN_STMT_HANDLER: another server behind a proxy
	1205: txLocked,   // ER_LOCK_WAIT_TIMEOUT
	3572: txLocked,   // ER_LOCK_NOWAIT

	1040: txBusy, // ER_CON_COUNT_ERROR
	1203: txBusy, // ER_TOO_MANY_USER_CONNECTIONS
	1226: txBusy, // ER_USER_LIMIT_REACHED

	1290: txReadOnly, // ER_OPTION_PREVENTS_STATEMENT
	1792: txReadOnly, // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
	1836: txReadOnly, // ER_READ_ONLY_MODE

	1045: txFailed, // ER_ACCESS_DENIED_ERROR
	1044: txFailed, // ER_DBACCESS_DENIED_ERROR
	1049: txFailed, // ER_BAD_DB_ERROR
	1054: txFailed, // ER_BAD_FIELD_ERROR
	1142: txFailed, // ER_TABLEACCESS_DENIED_ERROR
	1143: txFailed, // ER_COLUMNACCESS_DENIED_ERROR
	1146: txFailed, // ER_NO_SUCH_TABLE
	1461: txFailed, // ER_MAX_PREPARED_STMT_COUNT_REACHED
}

// Answers of a server that ends the connection, or the statement: like no
// answer at all they leave open what came of a commit.
var endings = map[uint16]bool{
	1053: true,                                     // ER_SERVER_SHUTDOWN
	1079: true,                                     // ER_SHUTDOWN_COMPLETE
	1080: true,                                     // ER_FORCING_CLOSE
	1158: true, 1159: true, 1160: true, 1161: true, // ER_NET_...
	1180: true, // ER_ERROR_DURING_COMMIT
	1317: true, // ER_QUERY_INTERRUPTED
	1927: true, // ER_CONNECTION_KILLED
	1969: true, // ER_STATEMENT_TIMEOUT, MariaDB
	3024: true, // ER_QUERY_TIMEOUT
	3032: true, // ER_SERVER_OFFLINE_MODE
	3169: true, // ER_SESSION_WAS_KILLED
	4031: true, // ER_CLIENT_INTERACTION_TIMEOUT
}

func numberOf(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// isAnswer reports whether err leaves the connection usable.
func isAnswer(err error) bool {
	n := numberOf(err)
	return n != 0 && !endings[n] && n != errPacketSize && txOutcomes[n] != txReadOnly && txOutcomes[n] != txCut
}

func outcomeOf(err error) txOutcome {
	_, before := errors.AsType[notDone](err)
	n := numberOf(err)
	switch {
	case errors.Is(err, session.ErrTooLarge), errors.Is(err, mysql.ErrPktTooLarge), // it was not sent
		errors.Is(err, ErrDamaged):
		return txItem
	case n == 0 && (before || errors.Is(err, driver.ErrBadConn)), endings[n] && before:
		return txCut
	case n == 0 || endings[n]:
		return txOpen
	}
	if f, ok := txOutcomes[n]; ok {
		return f
	}
	return txItem
}

// explain adds to an error of the driver what it means.
func explain(err error) error {
	var meaning error
	n := numberOf(err)
	switch {
	case n == 1114 || n == 1021 || n == 1041 || n == 28: // ER_RECORD_FILE_FULL, ER_DISK_FULL, ...
		meaning = ErrFull
	case txOutcomes[n] == txReadOnly:
		meaning = ErrReadOnly
	case txOutcomes[n] == txLocked:
		meaning = ErrLocked
	case txOutcomes[n] == txBusy:
		meaning = ErrBusy
	case n == errPacketSize:
		err = fmt.Errorf("the server's max_allowed_packet is smaller than it was: %w", err)
		meaning = session.ErrTooLarge
	case n == 1467: // ER_AUTOINC_READ_FAILED
		err = fmt.Errorf("the table's AUTO_INCREMENT has no number left: %w", err)
		meaning = ErrDamaged
	case errors.Is(err, mysql.ErrPktTooLarge):
		err = fmt.Errorf("the DSN's maxAllowedPacket: %w", err)
		meaning = session.ErrTooLarge
	case n == 1406 || n == 1118 || n == 139: // ER_DATA_TOO_LONG, ER_TOO_BIG_ROWSIZE
		meaning = session.ErrTooLarge
	default:
		return err
	}
	if errors.Is(err, meaning) {
		return err
	}
	return fmt.Errorf("%w: %w", meaning, err)
}

// wrap names the operation. It returns nil for nil.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("mysqlstore: %s: %w", op, explain(err))
}
