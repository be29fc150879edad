package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/session"
)

// A partition whose last deadline has passed, by the grace period and the
// database's clock, is retired: detached, which waits for those who use it
// without making others wait, and dropped. Between the two it is a table with
// our mark and no parent; whoever finds one finishes the work.

func (m *maintenance) retire(ctx context.Context, done *session.Pruned) error {
	f, err := m.facts(ctx)
	if err != nil {
		return err
	}
	due := f.due(f.graceInForce)
	if len(due) == 0 {
		return nil
	}
	if may, err := m.s.mayRetire(ctx, m.conn); err != nil || !may {
		return err
	}
	var errs []error
	for _, l := range due {
		if err := m.retireLeaf(ctx, l, done); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// due lists the partitions whose last hour ended so long ago.
func (f *facts) due(grace time.Duration) (due []leaf) {
	over := f.now().Add(-grace).Unix() / 3600
	for _, l := range f.leaves {
		if l.hi-1 <= over {
			due = append(due, l)
		}
	}
	return due
}

func (m *maintenance) retireLeaf(ctx context.Context, l leaf, done *session.Pruned) error {
	_, live, err := m.census(ctx, l.table)
	if err != nil {
		return fmt.Errorf("%s: %w", l.table, err)
	}
	if live > 0 {
		return m.alarm(l.table, live, errLiveRows)
	}
	err = m.ddl(ctx, func() error {
		// A vacuum under way would make us wait longer than we are ready to.
		if err := m.exec(ctx, lockPatiently, `ALTER TABLE `+l.table+` SET (autovacuum_enabled = off, toast.autovacuum_enabled = off)`); err != nil {
			return err
		}
		return m.exec(ctx, lockPatiently, `ALTER TABLE `+m.s.names.Sessions+` DETACH PARTITION `+l.table+` CONCURRENTLY`)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", l.table, err)
	}
	return m.settleDetached(ctx, l.name, int32(l.lo), int32(l.hi), done)
}

// census counts the rows of a leaf and those that would be live sessions.
func (m *maintenance) census(ctx context.Context, table string) (rows, live int64, err error) {
	err = m.conn.QueryRow(ctx, census+table).Scan(&rows, &live)
	return rows, live, err
}

// Rows of version 0 came with the leaf.
const census = `
SELECT pg_catalog.count(*) FILTER (WHERE version > 0),
       pg_catalog.count(*) FILTER (WHERE ended_at IS NULL AND expires_at > pg_catalog.now())
FROM `

// finalize ends detachings that were cut between their two transactions:
// until then no other partition can be detached.
func (m *maintenance) finalize(ctx context.Context) error {
	rows, err := m.conn.Query(ctx, `
SELECT n.nspname, c.relname
FROM pg_catalog.pg_inherits AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.inhparent = $1::text::regclass AND i.inhdetachpending`, m.s.names.Sessions)
	if err != nil {
		return err
	}
	pending, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var schema, name string
		err := row.Scan(&schema, &name)
		return pgx.Identifier{schema, name}.Sanitize(), err
	})
	if err != nil || len(pending) == 0 {
		return err
	}
	if may, err := m.s.mayRetire(ctx, m.conn); err != nil || !may {
		return err
	}
	return m.ddl(ctx, func() error {
		for _, table := range pending {
			if err := m.exec(ctx, lockPatiently, `ALTER TABLE `+m.s.names.Sessions+` DETACH PARTITION `+table+` FINALIZE`); err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
		}
		return nil
	})
}

// adopt finds tables that carry our mark and have no parent.
func (m *maintenance) adopt(ctx context.Context, done *session.Pruned) error {
	rows, err := m.conn.Query(ctx, `
SELECT c.relname, d.description
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_description AS d ON d.objoid = c.oid AND d.classoid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0
WHERE n.nspname = $1 AND c.relkind = 'r' AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid)
  AND d.description LIKE 'sojourn leaf of %'`, m.s.names.Schema)
	if err != nil {
		return err
	}
	type orphan struct {
		name   string
		lo, hi int32
	}
	var orphans []orphan
	var name, mark string
	_, err = pgx.ForEachRow(rows, []any{&name, &mark}, func() error {
		if lo, hi, ok := m.s.names.ParseLeafComment(mark); ok {
			orphans = append(orphans, orphan{name, lo, hi})
		}
		return nil
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range orphans {
		if err := m.settleDetached(ctx, o.name, o.lo, o.hi, done); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// settleDetached drops a detached leaf, or brings it back if its time is not
// over: it may have been detached by hand, or hold what should not be there.
func (m *maintenance) settleDetached(ctx context.Context, name string, lo, hi int32, done *session.Pruned) error {
	table := m.s.names.Qualify(name)
	f, err := m.facts(ctx)
	if err != nil {
		return err
	}
	rows, live, err := m.census(ctx, table)
	if err != nil {
		return fmt.Errorf("%s: %w", table, err)
	}
	over := time.Unix(int64(hi-1)*3600, 0).Before(f.now().Add(-f.graceInForce))
	if live == 0 && over {
		if err := m.exec(ctx, lockBriefly, `DROP TABLE `+table); err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
		done.Retired++
		done.Rows += rows
		return nil
	}
	if err := m.reattach(ctx, table, lo, hi, done); err != nil {
		return m.alarm(table, live, fmt.Errorf("it was detached before its time and cannot be brought back: %w", err))
	}
	if over {
		return m.alarm(table, live, errLiveRows)
	}
	return nil
}

// reattach puts a detached leaf back. Where others have taken its place
// meanwhile, be it in part, the rows move there, dead ones too: they keep keys
// dead. Those of hours that have passed are not needed for that.
func (m *maintenance) reattach(ctx context.Context, table string, lo, hi int32, done *session.Pruned) error {
	return m.ddl(ctx, func() error {
		f, err := m.facts(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(f.leaves, func(l leaf) bool { return l.lo < int64(hi) && l.hi > int64(lo) }) {
			return m.exec(ctx, lockBriefly, fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`,
				m.s.names.Sessions, table, lo, hi))
		}
		from := max(lo, session.BucketOf(f.now()))
		if err := m.fillGaps(ctx, f, from, hi-1, done); err != nil {
			return err
		}
		tx, err := m.conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // does nothing after a commit
		for _, sql := range []string{
			`LOCK TABLE ` + table + ` IN ACCESS EXCLUSIVE MODE`,
			`INSERT INTO ` + m.s.names.Sessions + ` (` + allColumns + `) SELECT ` + allColumns + ` FROM ` + table + ` WHERE bucket >= ` + strconv.Itoa(int(from)) + ` ON CONFLICT (key, bucket) DO NOTHING`,
			`DROP TABLE ` + table,
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return tx.Commit(ctx)
	})
}

const allColumns = columns + `, ended_at, renewed_to, renewed_bucket, grace_until, chain_until`
