package pglock

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/leader"
)

// Reluctant returns a Locker of the same lock for a process that others may be
// better suited to lead than. locker comes from [New], [FromPool] or [Around].
//
// fit is asked on the session that would hold the lock, at least every five
// seconds. While fit says no, the process leaves the lock to others. It takes
// the lock only after having found it free, at each of its attempts, for as
// long as free. free must be longer than the Poll of the others.
//
// A process that leads is asked nothing. A work that finds itself unfit returns
// nil now and then: a process that is fit and waits has the lock before this
// one stands again.
func Reluctant(locker leader.Locker[*pgx.Conn], free time.Duration, fit func(context.Context, *pgx.Conn) (bool, error)) leader.Locker[*pgx.Conn] {
	return &reluctant{Locker: locker, free: free, fit: fit}
}

type reluctant struct {
	leader.Locker[*pgx.Conn]
	free time.Duration
	fit  func(context.Context, *pgx.Conn) (bool, error)
}

func (l *reluctant) Open(ctx context.Context, silence time.Duration) (leader.Session[*pgx.Conn], error) {
	s, err := l.Locker.Open(ctx, silence)
	if err != nil {
		return nil, err
	}
	inner, ok := s.(*session)
	if !ok {
		return nil, errors.Join(errors.New("pglock: Reluctant needs a Locker of this package"), s.Close(ctx))
	}
	return &reluctantSession{session: inner, of: l}, nil
}

// askFit is for how long an answer of fit is used.
const askFit = 5 * time.Second

type reluctantSession struct {
	*session
	of *reluctant

	fit       bool
	asked     time.Time
	freeSince time.Time // zero: it was not free when last looked at
}

func (s *reluctantSession) TryLock(ctx context.Context) (bool, error) {
	if s.asked.IsZero() || time.Since(s.asked) >= askFit {
		fit, err := s.of.fit(ctx, s.Conn())
		if err != nil {
			return false, err
		}
		s.fit, s.asked = fit, time.Now()
	}
	if !s.fit {
		// This lock lasts for the length of the statement, which does not wait.
		var free bool
		err := s.conn.QueryRow(ctx, `SELECT pg_catalog.pg_try_advisory_xact_lock_shared($1::bigint)`, pgx.QueryExecModeExec, s.key).Scan(&free)
		if err != nil {
			return false, err
		}
		if !free {
			s.freeSince = time.Time{}
			return false, nil
		}
		if s.freeSince.IsZero() {
			s.freeSince = time.Now()
		}
		if time.Since(s.freeSince) < s.of.free {
			return false, nil
		}
	}
	return s.session.TryLock(ctx)
}
