package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Behind a transaction pooler no lock outlives a transaction. Maintenance then
// is transactions that each hold the lock for themselves: any node does them
// that finds the lock free. DETACH CONCURRENTLY cannot be part of one, so
// retiring a partition locks the table, for a moment and with a short timeout.

func (p *pruning) runPooled(ctx context.Context) error {
	for {
		done, err := p.s.pooledPass(ctx)
		p.add(done)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			p.s.backgroundError("maintain", err)
		}
		if !wait.Sleep(ctx, p.s.opts.nextPrune()) {
			return nil
		}
	}
}

func (s *Store) pooledPass(ctx context.Context) (session.Pruned, error) {
	var done session.Pruned
	f, err := s.refresh(ctx)
	if err != nil {
		return done, err
	}
	var errs []error
	now := f.now()
	last := int64(session.BucketOf(now.Add(f.longest + s.opts.Premake)))
	for {
		bucket, gap := f.firstGap(int64(session.BucketOf(now)), last)
		if !gap {
			break
		}
		if err := s.makeLeaf(ctx, s.control, bucket); err != nil {
			errs = append(errs, fmt.Errorf("make partitions ahead: %w", err))
			break
		}
		done.Made++
		if f, err = s.refresh(ctx); err != nil {
			return done, err
		}
	}
	due := f.due(f.graceInForce)
	if len(due) > 0 {
		may, err := s.mayRetire(ctx, s.control)
		if err != nil {
			errs = append(errs, err)
		}
		if !may {
			due = nil
		}
	}
	for _, l := range due {
		rows, err := s.retirePooled(ctx, l)
		switch {
		case errors.Is(err, errNotOurTurn):
		case err != nil:
			errs = append(errs, fmt.Errorf("retire %s: %w", l.table, err))
		default:
			done.Retired++
			done.Rows += rows
		}
	}
	if len(errs) == 0 {
		_, err := s.control.Exec(ctx,
			`UPDATE `+s.names.Meta+` SET maintained_at = pg_catalog.clock_timestamp(), maintained_by = $1`, s.opts.NodeName)
		if err != nil && !isCode(err, "42501") {
			errs = append(errs, err)
		}
	}
	s.refreshSoon()
	return done, errors.Join(errs...)
}

var errNotOurTurn = errors.New("another node does the maintenance")

func (s *Store) retirePooled(ctx context.Context, l leaf) (rows int64, err error) {
	err = s.retry(ctx, func(ctx context.Context) error {
		return s.begin(ctx, s.control, func(tx *transaction) error {
			var ours bool
			err := tx.QueryRow(ctx, `
SELECT pg_catalog.set_config('lock_timeout', $3, true) <> '' AND pg_catalog.pg_try_advisory_xact_lock($1) AND pg_catalog.pg_try_advisory_xact_lock($2)`,
				s.lockKey("prune"), s.names.DDLKey, lockBriefly).Scan(&ours)
			if err == nil && !ours {
				err = errNotOurTurn
			}
			if err != nil {
				return err
			}
			var live int64
			err = tx.QueryRow(ctx, census+l.table).Scan(&rows, &live)
			switch {
			case isCode(err, "42P01"): // undefined_table: dropped since we looked
				return errNotOurTurn
			case err != nil:
				return err
			case live > 0:
				return errLiveRows
			}
			if _, err = tx.Exec(ctx, `ALTER TABLE `+s.names.Sessions+` DETACH PARTITION `+l.table); err == nil {
				_, err = tx.Exec(ctx, `DROP TABLE `+l.table)
			}
			return err
		})
	})
	return rows, err
}
