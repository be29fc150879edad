package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// A partition whose last deadline has passed, by the grace period and the
// database's clock, is retired: detached and dropped. Between the two steps it
// is a table with our mark and no parent; a node that finds one finishes the
// work. The mark is the table's comment. A comment that begins with "keep" is
// an operator's word that the table is not to be touched.

func (m *maintenance) retire(ctx context.Context) error {
	due := m.facts.due(m.facts.GraceInForce)
	if len(due) == 0 {
		return nil
	}
	if !m.may {
		return m.mayNot()
	}
	var errs []error
	for _, part := range due {
		if err := m.retirePartition(ctx, part); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", part.Table, err))
		}
	}
	return errors.Join(errs...)
}

// due lists the partitions whose last hour ended so long ago.
func (f *Facts) due(grace time.Duration) (due []Partition) {
	over := f.Now().Add(-grace).Unix() / 3600
	for _, part := range f.Partitions {
		if part.Hi-1 <= over {
			due = append(due, part)
		}
	}
	return due
}

func (m *maintenance) retirePartition(ctx context.Context, part Partition) error {
	var live int64
	kept := false
	err := m.hand.transact(ctx, lockPatiently, true, func(tx pgx.Tx) (err error) {
		if _, live, err = census(ctx, tx, part.Table); err != nil || live > 0 {
			return err
		}
		kept, err = m.mark(ctx, tx, part)
		return err
	})
	switch {
	case db.IsCode(err, "42P01"): // undefined_table: retired by another since we looked
		return nil
	case err != nil:
		return err
	case live > 0:
		return liveRows(live)
	}
	if err := m.hand.detach(ctx, part.Table); err != nil {
		if db.IsCode(err, "42P01") { // detached by another
			return nil
		}
		return err
	}
	if kept {
		m.p.opts.Log.Info("a partition was detached and is kept, as its comment says", zap.String("partition", part.Table))
		return nil
	}
	return m.reattachOrDrop(ctx, part.Name, int32(part.Lo), int32(part.Hi))
}

// mark prepares a partition for being detached, unless it is to be kept.
func (m *maintenance) mark(ctx context.Context, tx pgx.Tx, part Partition) (kept bool, err error) {
	var comment string
	err = tx.QueryRow(ctx, `SELECT COALESCE(pg_catalog.obj_description($1::text::regclass, 'pg_class'), '')`, part.Table).Scan(&comment)
	if err != nil || strings.HasPrefix(comment, keepMark) {
		return err == nil, err
	}
	// A restore without comments has lost the mark; without it nobody would
	// find the table if the pass got no further.
	if ours := m.p.table.opts.Names.PartitionComment(int32(part.Lo), int32(part.Hi)); comment != ours {
		if _, err := tx.Exec(ctx, `COMMENT ON TABLE `+part.Table+` IS '`+strings.ReplaceAll(ours, `'`, `''`)+`'`); err != nil {
			return false, err
		}
	}
	// A vacuum under way would make detaching wait longer than it may.
	_, err = tx.Exec(ctx, `ALTER TABLE `+part.Table+` SET (autovacuum_enabled = off, toast.autovacuum_enabled = off)`)
	return false, err
}

// keepMark is what the comment of a partition that is to be kept begins with.
const keepMark = "keep"

// census counts the rows of a partition, and the rows that would be live
// sessions. Rows of version 0 came with the partition.
func census(ctx context.Context, tx pgx.Tx, table string) (rows, live int64, err error) {
	err = tx.QueryRow(ctx, `
SELECT pg_catalog.count(*) FILTER (WHERE version > 0),
       pg_catalog.count(*) FILTER (WHERE ended_at IS NULL AND expires_at > pg_catalog.now())
FROM `+table).Scan(&rows, &live)
	return rows, live, err
}

// liveRows says why a partition is not dropped.
func liveRows(n int64) error {
	return fmt.Errorf("it holds live sessions (%d), although its time is over; is its CHECK constraint in force?", n)
}

// finalize ends detachings that were cut between their two transactions:
// until then no other partition can be detached.
func (m *maintenance) finalize(ctx context.Context) error {
	rows, err := m.hand.conn.Query(ctx, `
SELECT n.nspname, c.relname
FROM pg_catalog.pg_inherits AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.inhparent = $1::text::regclass AND i.inhdetachpending`, m.p.table.opts.Names.Sessions)
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
	if !m.may {
		return m.mayNot()
	}
	for _, table := range pending {
		_, err := m.hand.exec(ctx, lockPatiently, true, `ALTER TABLE `+m.p.table.opts.Names.Sessions+` DETACH PARTITION `+table+` FINALIZE`)
		if err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	return nil
}

// adopt finds tables that carry our mark and have no parent.
func (m *maintenance) adopt(ctx context.Context) error {
	rows, err := m.hand.conn.Query(ctx, `
SELECT c.relname, d.description, pg_catalog.pg_has_role(c.relowner, 'USAGE')
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_description AS d ON d.objoid = c.oid AND d.classoid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0
WHERE n.nspname = $1 AND c.relkind = 'r'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid)
  AND d.description LIKE 'sojourn partition of %'`, m.p.table.opts.Names.Schema)
	if err != nil {
		return err
	}
	type orphan struct {
		name   string
		lo, hi int32
		may    bool
	}
	var orphans []orphan
	var name, mark string
	var may bool
	_, err = pgx.ForEachRow(rows, []any{&name, &mark, &may}, func() error {
		if lo, hi, ok := m.p.table.opts.Names.ParsePartitionComment(mark); ok {
			orphans = append(orphans, orphan{name, lo, hi, may})
		}
		return nil
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range orphans {
		err := m.mayNot()
		if m.may && o.may {
			err = m.reattachOrDrop(ctx, o.name, o.lo, o.hi)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.p.table.opts.Names.Qualify(o.name), err))
		}
	}
	return errors.Join(errs...)
}

// reattachOrDrop drops a detached partition, or brings it back if its time is
// not over. It may have been detached by hand, or hold what should not be
// there.
func (m *maintenance) reattachOrDrop(ctx context.Context, name string, lo, hi int32) error {
	table := m.p.table.opts.Names.Qualify(name)
	over := time.Unix(int64(hi-1)*3600, 0).Before(m.facts.Now().Add(-m.facts.GraceInForce))
	var rows, live int64
	var made int
	var dropped, gone bool
	err := m.hand.transact(ctx, lockBriefly, true, func(tx pgx.Tx) (err error) {
		rows, live, made, dropped = 0, 0, 0, false
		if gone, err = m.isGone(ctx, tx, table, lo, hi); err != nil || gone {
			return err
		}
		if _, err = tx.Exec(ctx, `LOCK TABLE `+table+` IN ACCESS EXCLUSIVE MODE`); err != nil {
			return err
		}
		if rows, live, err = census(ctx, tx, table); err != nil {
			return err
		}
		if live == 0 && over {
			dropped = true
			_, err = tx.Exec(ctx, `DROP TABLE `+table)
			return err
		}
		made, err = m.reattach(ctx, tx, table, lo, hi)
		return err
	})
	switch {
	case gone || db.IsCode(err, "42P01"):
		return nil
	case err != nil && !dropped:
		return fmt.Errorf("it was detached before its time and cannot be brought back: %w", err)
	case err != nil:
		return err
	case dropped:
		m.done.Retired++
		m.done.Rows += rows
		return nil
	}
	m.done.Made += made
	if err := m.readFacts(ctx, m.hand.conn); err != nil {
		return err
	}
	if over {
		return liveRows(live)
	}
	return nil
}

// isGone reports whether a detached table is no longer ours to deal with: another
// pass has dropped it or brought it back, or its comment has changed.
func (m *maintenance) isGone(ctx context.Context, tx pgx.Tx, table string, lo, hi int32) (gone bool, err error) {
	err = tx.QueryRow(ctx, `
SELECT c.oid IS NULL OR EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid)
  OR pg_catalog.obj_description(c.oid, 'pg_class') IS DISTINCT FROM $2
FROM (SELECT pg_catalog.to_regclass($1) AS oid) AS c`, table, m.p.table.opts.Names.PartitionComment(lo, hi)).Scan(&gone)
	return gone, err
}

// reattach puts a detached partition back. If other partitions have taken its
// place meanwhile, or a part of it, the rows move there. Dead rows move too:
// they keep keys dead. Rows of hours that have passed do not move: they are not
// needed for that.
func (m *maintenance) reattach(ctx context.Context, tx pgx.Tx, table string, lo, hi int32) (made int, err error) {
	f, err := m.p.table.read(ctx, tx)
	if err != nil {
		return 0, err
	}
	if !slices.ContainsFunc(f.Partitions, func(part Partition) bool { return part.Lo < int64(hi) && part.Hi > int64(lo) }) {
		_, err = tx.Exec(ctx, fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`,
			m.p.table.opts.Names.Sessions, table, lo, hi))
		return 0, err
	}
	from := max(lo, session.BucketOf(f.Now()))
	for {
		bucket, gap := f.firstGap(int64(from), int64(hi-1))
		if !gap {
			break
		}
		if _, err := tx.Exec(ctx, m.p.table.queries.makePartition, bucket); err != nil {
			return 0, err
		}
		made++
		if f, err = m.p.table.read(ctx, tx); err != nil {
			return 0, err
		}
	}
	for _, sql := range []string{
		`INSERT INTO ` + m.p.table.opts.Names.Sessions + ` (` + allColumns + `) SELECT ` + allColumns + ` FROM ` + table +
			` WHERE bucket >= ` + strconv.Itoa(int(from)) + ` ON CONFLICT (key, bucket) DO NOTHING`,
		`DROP TABLE ` + table,
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return 0, err
		}
	}
	return made, nil
}
