package reach

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

var errRefused = fmt.Errorf("failed to connect: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})

func TestADatabaseThatStartsIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, n := time.Now(), 0
		err := Database(t.Context(), func(context.Context) error {
			n++
			switch passed := time.Since(began); {
			case passed > 20*time.Second:
				return nil
			case passed > 10*time.Second:
				return &pgconn.PgError{Code: "57P03", Message: "the database system is starting up"}
			}
			return errRefused
		})
		if err != nil || n < 10 || n > 60 {
			t.Errorf("%v after %d attempts, want nil after some more", err, n)
		}
		if late := time.Since(began) - 20*time.Second; late > longestPause {
			t.Errorf("it took %v longer than the start", late)
		}
	})
}

func TestTheEndSaysHowOftenItWasTried(t *testing.T) {
	t.Parallel()
	for name, deadline := range map[string]time.Duration{"its own limit": Limit, "that of the context": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := t.Context(), func() {}
				if deadline != Limit {
					ctx, cancel = context.WithTimeout(ctx, deadline)
				}
				defer cancel()
				began, n := time.Now(), 0
				err := Database(ctx, func(context.Context) error { n++; return errRefused })
				if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), fmt.Sprintf("in %d attempts within %v", n, deadline)) {
					t.Errorf("after %d attempts: %v", n, err)
				}
				if took := time.Since(began); took != deadline {
					t.Errorf("it took %v, want %v", took, deadline)
				}
			})
		})
	}
}

// An attempt that the end cuts short says less than those before it.
func TestTheEndSaysWhatFailedBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := Database(ctx, func(ctx context.Context) error {
			if end, _ := ctx.Deadline(); time.Until(end) > 2*time.Second {
				return errRefused
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, syscall.ECONNREFUSED) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestAnAttemptThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		err := Database(t.Context(), func(ctx context.Context) error {
			if n++; n == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		if err != nil || n != 2 {
			t.Errorf("%v after %d attempts, want nil after two", err, n)
		}
	})
}

func TestWhatDoesNotHealFailsAtOnce(t *testing.T) {
	t.Parallel()
	pg := func(code, message string) error { return &pgconn.PgError{Code: code, Message: message} }
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{errRefused, true},
		{&net.DNSError{Err: "no such host", Name: "db"}, true},
		{context.DeadlineExceeded, true},
		{pg("57P03", "the database system is starting up"), true},
		{pg("57P01", "terminating connection due to administrator command"), true},
		{pg("53300", "sorry, too many clients already"), true},
		{pg("08P01", "server login has been failing, try again later (server_login_retry)"), true},
		{pg("08006", "connection failure"), true},
		{pg("28P01", "password authentication failed"), false},
		{pg("28000", "no pg_hba.conf entry"), false},
		{pg("3D000", `database "x" does not exist`), false},
		{pg("42501", "permission denied for database"), false},
		{pg("08P01", "unsupported startup parameter: x"), false},
		{pg("08P01", "no such database: x"), false},
		{pg("42P05", "prepared statement already exists"), false},
		{fmt.Errorf("tls error: %w", x509.UnknownAuthorityError{}), false},
		{errors.New("server errRefused TLS connection"), false},
		{errors.New("whatever"), false},
		{context.Canceled, false},
	} {
		n := 0
		if got := Heals(tt.err); got != tt.want {
			t.Errorf("Heals(%v) = %t, want %t", tt.err, got, tt.want)
		}
		if tt.want {
			continue
		}
		if err := Database(t.Context(), func(context.Context) error { n++; return tt.err }); err != tt.err || n != 1 {
			t.Errorf("%v: %v after %d attempts, want it after one", tt.err, err, n)
		}
	}
}
