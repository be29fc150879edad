package partition

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
)

// Sessions that go idle long before their deadline would stay on disk until
// their partition ends. So a pass looks at the partitions one after the other.
// It walks through those that hold at least as many idle-expired sessions as
// live ones, a range of pages at a time. Tombstones do not count: there is
// nothing to be won from them.

// sweeper remembers what was looked at, from pass to pass.
type sweeper struct {
	looked map[string]time.Time
	// The walk that did not fit into a pass.
	table string
	page  int64
}

// SweepLeast is how many pages, TOAST included, a partition has that is looked
// at.
const SweepLeast = 1000

const (
	sweepAgain   = time.Hour // a partition is not looked at more often
	sweepSample  = 1000      // pages to estimate by
	sweepPages   = 256       // per transaction
	sweepPause   = 20 * time.Millisecond
	sweepPerPass = 2 * time.Minute
	// A node that may not retire partitions keeps nobody waiting that may.
	sweepUnfit = 10 * time.Second
)

func (m *maintenance) thin(ctx context.Context) error {
	sw := m.sweep
	if sw.looked == nil {
		sw.looked = map[string]time.Time{}
	}
	limit := sweepPerPass
	if !m.may {
		limit = sweepUnfit
	}
	end := time.Now().Add(limit)
	for _, part := range m.facts.Partitions {
		if t, ok := sw.looked[part.Table]; ok && time.Since(t) < sweepAgain {
			continue
		}
		if time.Now().After(end) {
			return errLater
		}
		err := m.thinPartition(ctx, part, end)
		switch {
		case errors.Is(err, errLater):
			return err
		case db.IsCode(err, "42P01"): // undefined_table: retired meanwhile
			sw.table = ""
		case err != nil:
			return fmt.Errorf("%s: %w", part.Table, err)
		}
		sw.looked[part.Table] = time.Now()
	}
	for table := range sw.looked {
		if !m.facts.has(table) {
			delete(sw.looked, table)
		}
	}
	return nil
}

// thinPartition walks through a partition if that is worth it, or goes on with that.
func (m *maintenance) thinPartition(ctx context.Context, part Partition, end time.Time) error {
	sw, grace := m.sweep, m.facts.GraceInForce.Seconds()
	var pages, all int64
	err := m.hand.conn.QueryRow(ctx, `
SELECT pg_catalog.pg_relation_size($1::text::regclass) / b, pg_catalog.pg_table_size($1::text::regclass) / b
FROM (SELECT pg_catalog.current_setting('block_size')::bigint) AS s(b)`, part.Table).Scan(&pages, &all)
	if err != nil || all < SweepLeast {
		return err
	}
	if sw.table != part.Table {
		worth, err := m.worthThinning(ctx, part, pages, grace)
		if err != nil || !worth {
			return err
		}
		sw.table, sw.page = part.Table, 0
	}
	return m.walk(ctx, part, pages, grace, end)
}

// walk makes tombstones of the sessions that are idle for so long, from where
// it stopped before. A key could be put again if its row were gone.
func (m *maintenance) walk(ctx context.Context, part Partition, pages int64, grace float64, end time.Time) error {
	sw := m.sweep
	sql := ThinOut(part.Table)
	skipped := false
	for sw.page < pages {
		rows, err := m.hand.exec(ctx, lockBriefly, false, sql, grace, fmt.Sprintf("(%d,0)", sw.page), fmt.Sprintf("(%d,0)", sw.page+sweepPages))
		switch f := db.OutcomeOf(err); {
		case err != nil && (f == db.TxLocked || f == db.TxConflict):
			skipped = true
		case err != nil:
			return err
		}
		m.done.Emptied += rows
		sw.page += sweepPages
		if !wait.Sleep(ctx, sweepPause) {
			return wait.Ended(ctx)
		}
		if time.Now().After(end) && sw.page < pages {
			return errLater
		}
	}
	sw.table = ""
	if skipped {
		return errLater // somebody holds rows; they are looked at again
	}
	return nil
}

// ThinOut is the statement that makes tombstones of the sessions in a range of
// rows whose idle timeout ended longer ago than a grace in seconds: $2, $3, $1.
func ThinOut(table string) string {
	return `UPDATE ` + table + ` SET ended_at = expires_at, user_id = NULL, data = NULL
WHERE ctid >= $2::tid AND ctid < $3::tid AND ` + idleExpired
}

// worthThinning estimates whether a partition holds at least as many sessions that
// idle-expired as live ones.
func (m *maintenance) worthThinning(ctx context.Context, part Partition, pages int64, grace float64) (bool, error) {
	var live, expired int64
	share := 100.0
	if pages > sweepSample {
		share = 100 * float64(sweepSample) / float64(pages)
	}
	err := m.hand.transact(ctx, lockBriefly, false, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
SELECT pg_catalog.count(*) FILTER (WHERE NOT (`+idleExpired+`)), pg_catalog.count(*) FILTER (WHERE `+idleExpired+`)
FROM `+part.Table+` TABLESAMPLE SYSTEM ($2) WHERE ended_at IS NULL`, grace, share).Scan(&live, &expired)
	})
	return expired > 0 && expired >= live, err
}

// idleExpired says that a row's idle timeout ended longer ago than any write
// that began before can last.
const idleExpired = `ended_at IS NULL AND expires_at < pg_catalog.now() - pg_catalog.make_interval(secs => $1::double precision)`

func (f *Facts) has(table string) bool {
	for _, part := range f.Partitions {
		if part.Table == table {
			return true
		}
	}
	return false
}
