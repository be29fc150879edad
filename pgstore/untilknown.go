package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// untilKnown runs a transaction until its outcome is known: it is repeated when
// others made it fail, and when its answer was lost. After a lost answer it asks
// landed, if that is not nil, whether the transaction happened; an error of landed
// means that it cannot tell. Calls with an equal same need one lock, so they take
// turns.
func (s *Store) untilKnown(ctx context.Context, r db.Road, same any, attempt func(context.Context, db.Road) error, landed func(context.Context) (bool, error)) error {
	ctx, cancel := s.conns.Within(ctx, "the write")
	defer cancel()
	end, _ := ctx.Deadline() // the caller's may come before the option's
	r = r.EndsAt(end)
	var lost error
	locked := 0
	for try := 1; ; try++ {
		err := s.inTurn(ctx, same, func() error {
			return r.Try(try).ForLocks(ctx, locked, attempt)
		})
		if err == nil {
			return nil
		}
		f := db.OutcomeOf(err)
		switch f {
		case db.TxOpen:
			lost, r.OwnFirst = err, true
			s.cache.Disown() // it may still be committed
		case db.TxLocked:
			if locked++; locked > 1 {
				s.endSilent(ctx, s.control)
			}
		}
		again := lost != nil || f == db.TxConflict || f == db.TxLocked && r.MayWait(ctx)
		if lost != nil {
			did, cannotSay := false, error(nil)
			if landed != nil {
				did, cannotSay = landed(ctx)
			}
			switch {
			case did:
				return nil
			case !db.IsRefusal(err):
			case landed == nil, errors.Is(cannotSay, session.ErrUnknown):
				again = false
			case cannotSay == nil:
				return err // this attempt came after the lost one
			}
		}
		if again && (f == db.TxLocked || storekit.Backoff().Pause(ctx, try)) {
			s.conns.Retries.Add(1)
			continue
		}
		if lost != nil {
			return s.outcomeOpen(ctx, lost, err)
		}
		return wait.Because(ctx, err)
	}
}

// inTurn runs do when nobody else of this node has the turn. A nil turn is
// nobody's.
func (s *Store) inTurn(ctx context.Context, of any, do func() error) error {
	if of == nil {
		return do()
	}
	end, err := s.turns.take(ctx, of)
	if err != nil {
		return db.NotDone(fmt.Errorf("others wait for the same lock: %w", err))
	}
	defer end()
	return do()
}
