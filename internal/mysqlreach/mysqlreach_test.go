package mysqlreach

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestWhatDoesNotHealFailsAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{&mysql.MySQLError{Number: 1040}, true},
		{fmt.Errorf("connect: %w", &mysql.MySQLError{Number: 1053}), true},
		{mysql.ErrInvalidConn, true},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, true},
		{&pgconn.PgError{Code: "57P03"}, true},
		{&mysql.MySQLError{Number: 1045}, false},
		{&mysql.MySQLError{Number: 1049}, false},
		{&pgconn.PgError{Code: "28P01"}, false},
	} {
		if got := Heals(tt.err); got != tt.want {
			t.Errorf("Heals(%v) = %t, want %t", tt.err, got, tt.want)
		}
	}
}

func TestAServerThatIsFullIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answers := []error{&mysql.MySQLError{Number: 1040}, mysql.ErrInvalidConn, nil}
		n := 0
		err := Database(t.Context(), func(context.Context) error { n++; return answers[n-1] })
		if err != nil || n != len(answers) {
			t.Errorf("%v after %d attempts, want nil after %d", err, n, len(answers))
		}
	})
}
