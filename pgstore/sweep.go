package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Sessions that go idle long before their deadline would stay on disk until
// their partition ends. So the leader looks at the partitions one after the
// other, and walks through those that are mostly idle-expired, a range of
// pages at a time.

// sweeper remembers when each partition was looked at.
type sweeper struct {
	looked map[string]time.Time
}

const (
	sweepAgain   = time.Hour // a partition is not looked at more often
	sweepSample  = 1000      // pages to estimate by
	sweepLeast   = 1000      // pages below which a partition is left alone
	sweepShare   = 0.5       // of the sessions that have not ended
	sweepPages   = 256       // per transaction
	sweepPause   = 20 * time.Millisecond
	sweepPerPass = 2 * time.Minute
)

func (m *maintenance) sweep(ctx context.Context, sw *sweeper, done *session.Pruned) error {
	if sw.looked == nil {
		sw.looked = map[string]time.Time{}
	}
	f, err := m.facts(ctx)
	if err != nil {
		return err
	}
	end := time.Now().Add(sweepPerPass)
	for _, l := range f.leaves {
		if t, ok := sw.looked[l.table]; ok && time.Since(t) < sweepAgain {
			continue
		}
		if time.Now().After(end) {
			return nil
		}
		sw.looked[l.table] = time.Now()
		if err := m.sweepLeaf(ctx, f, l, done); err != nil && !isCode(err, "42P01") {
			return fmt.Errorf("%s: %w", l.table, err)
		}
	}
	for table := range sw.looked {
		if !f.has(table) {
			delete(sw.looked, table)
		}
	}
	return nil
}

func (m *maintenance) sweepLeaf(ctx context.Context, f *facts, l leaf, done *session.Pruned) error {
	grace := f.graceInForce.Seconds()
	var pages int64
	err := m.conn.QueryRow(ctx, `
SELECT pg_catalog.pg_relation_size($1::text::regclass) / pg_catalog.current_setting('block_size')::bigint`, l.table).Scan(&pages)
	if err != nil || pages < sweepLeast {
		return err
	}
	var rows, expired int64
	share := min(100, 100*float64(sweepSample)/float64(pages))
	err = m.conn.QueryRow(ctx, `
SELECT pg_catalog.count(*) FILTER (WHERE ended_at IS NULL), pg_catalog.count(*) FILTER (WHERE `+idleExpired+`)
FROM `+l.table+` TABLESAMPLE SYSTEM ($2)`, grace, share).Scan(&rows, &expired)
	if err != nil || float64(expired) < sweepShare*float64(rows) || expired == 0 {
		return err
	}
	return m.thin(ctx, l, pages, grace, done)
}

// thin makes tombstones of the sessions that are idle for so long. A key could
// be put again if its row were gone.
func (m *maintenance) thin(ctx context.Context, l leaf, pages int64, grace float64, done *session.Pruned) error {
	sql := `UPDATE ` + l.table + ` SET ended_at = expires_at, user_id = NULL, data = NULL
WHERE ctid >= $2::tid AND ctid < $3::tid AND ` + idleExpired
	for page := int64(0); page < pages; page += sweepPages {
		if _, err := m.conn.Exec(ctx, `SELECT pg_catalog.set_config('lock_timeout', $1, false)`, lockBriefly); err != nil {
			return err
		}
		tag, err := m.conn.Exec(ctx, sql, grace, fmt.Sprintf("(%d,0)", page), fmt.Sprintf("(%d,0)", page+sweepPages))
		if err != nil && fateOf(err) != fateLocked && fateOf(err) != fateConflict {
			return err
		}
		done.Emptied += tag.RowsAffected()
		if !wait.Sleep(ctx, sweepPause) {
			return nil
		}
	}
	return nil
}

// idleExpired says that a row's idle timeout ended longer ago than any write
// that began before can last.
const idleExpired = `ended_at IS NULL AND expires_at < pg_catalog.now() - pg_catalog.make_interval(secs => $1::double precision)`

func (f *facts) has(table string) bool {
	for _, l := range f.leaves {
		if l.table == table {
			return true
		}
	}
	return false
}
