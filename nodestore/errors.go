package nodestore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/redacted"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// The errors of this package, beside those of package session, which are
// ErrNotFound, ErrExists, ErrConflict, ErrInvalid, ErrTooLarge, ErrDeadline,
// ErrUndecodable, ErrUnknown and ErrClosed.
var (
	// ErrUnsuitable says that the table or the connection is not as the layout
	// needs it.
	ErrUnsuitable = errors.New("nodestore: unsuitable table")
)

// wrap names the operation. It returns nil for nil.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("nodestore: %s: %w", op, err)
}

func unsuitable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsuitable, fmt.Sprintf(format, args...))
}

// invalid reports a bad argument by its field.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", session.ErrInvalid, fmt.Sprintf(format, args...))
}

// SQLite's result codes (sqlite.org/rescode.html). They are not taken from the
// driver, which a program with another database does not need.
const (
	sqliteBusy   = 5
	sqliteLocked = 6
	sqliteIOErr  = 10
	sqliteTooBig = 18
)

// The servers' codes that mean something here: PostgreSQL's manual, Appendix A,
// and MySQL's Server Error Message Reference.
const (
	pgSerialization   = "40001"
	pgDeadlock        = "40P01"
	pgTooLong         = "22001"
	pgTooMuch         = "54000"
	pgCheckFailed     = "23514"
	mysqlNull         = 1048
	mysqlDuplicate    = 1062
	mysqlPacket       = 1153
	mysqlDeadlock     = 1213
	mysqlBadString    = 1366
	mysqlTooLong      = 1406
	mysqlInvalidJSON  = 3140
	mysqlJSONArgument = 3141
	mariaCheckFailed  = 4025
	mysqlCheckFailed  = 3819
	mysqlOutOfRange   = 1264
	mysqlCollations   = 1267
	mysqlBadDateValue = 1292
	mysqlCharacters   = 3988
)

// answer is what a server said: one of the three is set, or none if it did not
// say anything.
type answer struct {
	postgres string
	mysql    uint16
	sqlite   int
}

func answerOf(err error) (a answer) {
	var state interface {
		error
		SQLState() string
	}
	var code interface {
		error
		Code() int
	}
	var number *mysql.MySQLError
	switch {
	case errors.As(err, &number):
		a.mysql = number.Number
	case errors.As(err, &state):
		a.postgres = state.SQLState()
	case errors.As(err, &code):
		a.sqlite = code.Code() & 0xff
	}
	return a
}

// isConflict reports whether a statement or transaction failed because of
// others and may be repeated.
func isConflict(err error) bool {
	a := answerOf(err)
	return a.postgres == pgSerialization || a.postgres == pgDeadlock || a.mysql == mysqlDeadlock ||
		a.sqlite == sqliteBusy || a.sqlite == sqliteLocked
}

// isForeign reports whether MySQL found a text that the column's character set
// does not have. No row has such an ID.
func isForeign(err error) bool {
	a := answerOf(err)
	return a.mysql == mysqlCollations || a.mysql == mysqlCharacters
}

// isOpen reports whether a write that failed with err may have happened.
func isOpen(err error) bool {
	if _, before := errors.AsType[*notDone](err); before {
		return false
	}
	switch a := answerOf(err); {
	case a.postgres != "":
		// Ends of the connection, and 40003, statement_completion_unknown.
		return strings.HasPrefix(a.postgres, "08") || strings.HasPrefix(a.postgres, "57P") || a.postgres == "40003"
	case a.mysql != 0:
		return false
	case a.sqlite != 0:
		return a.sqlite == sqliteIOErr
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" || errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrPktTooLarge) {
		return false
	}
	var sent interface {
		error
		SafeToRetry() bool
	}
	return !errors.As(err, &sent) || !sent.SafeToRetry()
}

// written explains why a write failed. It returns nil for nil.
func written(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	a := answerOf(err)
	switch {
	case isOurs(err):
		return err
	case a.mysql == mysqlDuplicate || a.mysql == mysqlBadString || a.mysql == mysqlBadDateValue:
		err = redacted.Because(fmt.Sprintf("Error %d", a.mysql), err)
	case isData(a):
		err = redacted.Because("SQLSTATE "+a.postgres, err)
	}
	switch {
	case a.postgres == pgTooLong, a.postgres == pgTooMuch, a.mysql == mysqlPacket, a.mysql == mysqlTooLong,
		a.sqlite == sqliteTooBig, errors.Is(err, mysql.ErrPktTooLarge):
		return fmt.Errorf("%w: %w", session.ErrTooLarge, err)
	case isData(a),
		a.mysql == mysqlNull, a.mysql == mysqlBadString, a.mysql == mysqlInvalidJSON, a.mysql == mysqlJSONArgument, a.mysql == mariaCheckFailed, a.mysql == mysqlCheckFailed,
		a.mysql == mysqlOutOfRange, a.mysql == mysqlBadDateValue, isForeign(err):
		return fmt.Errorf("%w: the database refuses it: %w", session.ErrInvalid, err)
	case isOpen(err):
		return fmt.Errorf("%w: %w", session.ErrUnknown, wait.Because(ctx, err))
	}
	return err
}

// isData reports whether Postgres took a value for impossible.
func isData(a answer) bool { return strings.HasPrefix(a.postgres, "22") || a.postgres == pgCheckFailed }

// isOurs reports whether the store itself said no, not the database.
func isOurs(err error) bool { return is(err, ours()...) != nil }

func ours() []error {
	return []error{
		session.ErrNotFound, session.ErrConflict, session.ErrExists, session.ErrDeadline, session.ErrInvalid,
		session.ErrTooLarge, session.ErrUndecodable, session.ErrUnknown, session.ErrClosed,
	}
}

// is returns the first of reasons that err is, if it is one.
func is(err error, reasons ...error) error {
	for _, reason := range reasons {
		if errors.Is(err, reason) {
			return reason
		}
	}
	return nil
}

// kindOf is which error err is, for logs that count them.
func kindOf(err error) string {
	if kind := is(err, append(ours(), session.ErrInsecure, session.ErrMisplaced, session.ErrTooLate)...); kind != nil {
		return kind.Error()
	}
	return ""
}

// notDone marks an error after which nothing can have been committed.
type notDone struct{ error }

func (e *notDone) Unwrap() error { return e.error }

// before marks an error of a step before the write. It returns nil for nil.
func before(err error) error {
	if err == nil {
		return nil
	}
	return &notDone{err}
}
