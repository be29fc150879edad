// Package reach waits for a database that cannot be reached yet, as when it
// starts beside the program.
package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
)

const (
	// Limit is for how long a database is waited for if the context has no
	// deadline.
	Limit = 30 * time.Second

	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
	// perTry leaves time for another attempt where one gets no answer.
	perTry = 10 * time.Second
)

// Database calls try, which connects, until it returns nil, or an error that time
// does not heal, or ctx ends. Without a deadline of ctx it goes on for [Limit].
// The context of an attempt ends with it.
func Database(ctx context.Context, try func(context.Context) error) error {
	return While(ctx, Heals, try)
}

// While is [Database] for a database with errors of its own: heals is told those
// that [Heals] does not know.
func While(ctx context.Context, heals func(error) bool, try func(context.Context) error) error {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, Limit)
		defer cancel()
	}
	began, pause := time.Now(), firstPause
	var before error
	for n := 1; ; n++ {
		err := attempt(ctx, try)
		if err == nil || !heals(err) {
			return err
		}
		err = wait.After(ctx, err, before)
		before = err
		if !wait.Sleep(ctx, pause/2+rand.N(pause/2)) {
			return fmt.Errorf("the database was not reached in %d attempts within %v: %w", n, time.Since(began).Round(time.Millisecond), err)
		}
		pause = min(2*pause, longestPause)
	}
}

// attempt gives one attempt its share of the time, as it may hang.
func attempt(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, perTry)
	defer cancel()
	return try(ctx)
}

// Heals reports whether err says that the database could not be reached, for a
// reason that may pass: it does not listen, does not answer, has too many
// connections, starts, stops or takes no writes yet. A wrong password, an unknown
// database and what is wrong with TLS do not pass. Of the databases it knows what
// Postgres answers.
func Heals(err error) bool {
	var answer sqlState
	switch {
	case err == nil:
		return false
	case errors.As(err, &answer):
		return healsPostgres(answer)
	case isTLS(err):
		return false
	}
	var (
		netErr  *net.OpError
		dnsErr  *net.DNSError
		sysErr  syscall.Errno
		timeout net.Error
	)
	return errors.As(err, &netErr) || errors.As(err, &dnsErr) || errors.As(err, &sysErr) ||
		errors.As(err, &timeout) && timeout.Timeout() ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, driver.ErrBadConn) ||
		strings.Contains(err.Error(), "read only connection") // of target_session_attrs
}

// sqlState is an answer of Postgres, whichever driver brings it.
type sqlState interface {
	error
	SQLState() string
}

func healsPostgres(err sqlState) bool {
	switch err.SQLState() {
	case "57P03", "57P01", "57P02", "57P05", "53300": // it starts, stops, or is full
		return true
	case "08P01": // all that PgBouncer says
		for _, lasting := range []string{"startup parameter", "no such database", "no such user", "auth", "SASL", "prepared statement"} {
			if strings.Contains(err.Error(), lasting) {
				return false
			}
		}
		return true
	}
	return strings.HasPrefix(err.SQLState(), "08")
}

func isTLS(err error) bool {
	var (
		verify  *tls.CertificateVerificationError
		header  tls.RecordHeaderError
		alert   tls.AlertError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	return errors.As(err, &verify) || errors.As(err, &header) || errors.As(err, &alert) ||
		errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid)
}
