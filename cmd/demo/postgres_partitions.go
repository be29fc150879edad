package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// partitionRange is a partition: the buckets from lo to before hi.
type partitionRange struct {
	name   string
	lo, hi int32
}

// partitions asks the catalog, whatever the nodes believe.
func partitions(ctx context.Context, conn *pgx.Conn, names migrations.Names) ([]partitionRange, error) {
	rows, err := conn.Query(ctx, `
SELECT c.relname, b[1]::integer, b[2]::integer
FROM pg_catalog.pg_inherits AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
CROSS JOIN pg_catalog.regexp_match(pg_catalog.pg_get_expr(c.relpartbound, c.oid),
  'FROM [(]''?(-?[0-9]+)''?[)] TO [(]''?(-?[0-9]+)''?[)]') AS b
WHERE i.inhparent = $1::text::regclass AND NOT i.inhdetachpending
ORDER BY 2`, names.Sessions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l partitionRange, err error) {
		return l, row.Scan(&l.name, &l.lo, &l.hi)
	})
}

// gap returns the first bucket from lo to hi that has no partition.
func gap(all []partitionRange, lo, hi int32) (int32, bool) {
	for _, l := range all {
		if l.lo <= lo && lo < l.hi {
			lo = l.hi
		}
	}
	return lo, lo <= hi
}

// partitionsAhead drops the last partition and waits for the leader to make it again.
func (c *postgresCheck) partitionsAhead(ctx context.Context) (detail string, err error) {
	err = c.db.with(ctx, func(conn *pgx.Conn) error {
		names, err := migrations.NamesOf(c.db.schema(), migrations.DefaultTable)
		if err != nil {
			return err
		}
		settings, err := migrations.LoadSettings(ctx, conn, c.db.tables())
		if err != nil {
			return err
		}
		lacking := func(all []partitionRange) (bucket int32, some bool) {
			now := time.Now()
			return gap(all, session.BucketOf(now), session.BucketOf(now.Add(settings.LongestLifetime+24*time.Hour)))
		}
		missing := func() (all []partitionRange, bucket int32, some bool, err error) {
			all, err = partitions(ctx, conn, names)
			bucket, some = lacking(all)
			return all, bucket, some, err
		}
		all, bucket, some, err := missing()
		if err != nil {
			return err
		}
		if some {
			return fmt.Errorf("bucket %d has no partition", bucket)
		}
		if _, needed := lacking(all[:len(all)-1]); !needed {
			return errors.New("the last partition is not needed")
		}
		if err := dropUnused(ctx, conn, names, all[len(all)-1]); err != nil {
			return err
		}
		took, err := until(ctx, func() (bool, error) {
			var err error
			if all, bucket, some, err = missing(); err == nil && some {
				err = fmt.Errorf("bucket %d still has no partition", bucket)
			}
			return !some, err
		})
		if err != nil {
			return err
		}
		end := time.Unix(int64(all[len(all)-1].hi-1)*3600, 0).UTC()
		detail = fmt.Sprintf("%d partitions, to %s; the last one was dropped and is there again after %v",
			len(all), end.Format("2 Jan 15:04"), took.Round(10*time.Millisecond))
		return nil
	})
	return detail, err
}

// inTx runs do in a transaction that holds the lock of those who make and
// retire partitions.
func inTx(ctx context.Context, conn *pgx.Conn, names migrations.Names, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('lock_timeout', '3s', true)`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_advisory_xact_lock($1)`, names.DDLKey); err != nil {
			return err
		}
		return do(tx)
	})
}

func dropUnused(ctx context.Context, conn *pgx.Conn, names migrations.Names, l partitionRange) error {
	table := names.Qualify(l.name)
	return inTx(ctx, conn, names, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `ALTER TABLE `+names.Sessions+` DETACH PARTITION `+table); err != nil {
			return err
		}
		var live int64
		if err := tx.QueryRow(ctx, `SELECT pg_catalog.count(*) FROM `+table+` WHERE ended_at IS NULL`).Scan(&live); err != nil {
			return err
		}
		if live > 0 {
			return fmt.Errorf("%s holds %d sessions", l.name, live)
		}
		_, err := tx.Exec(ctx, `DROP TABLE `+table)
		return err
	})
}

const expiredRows = 200_000

// expire puts a partition of long expired sessions into the table and waits for the
// leader to retire it, while somebody reads on every node.
func (c *postgresCheck) expire(ctx context.Context) (detail string, err error) {
	names, err := migrations.NamesOf(c.db.schema(), migrations.DefaultTable)
	if err != nil {
		return "", err
	}
	before, err := c.retired(ctx)
	if err != nil {
		return "", err
	}

	var bytes int64
	var took time.Duration
	readers, err := c.whileRead(ctx, func() error {
		return c.db.with(ctx, func(conn *pgx.Conn) error {
			partition, size, err := fillExpired(ctx, conn, names)
			if err != nil {
				return err
			}
			bytes = size
			took, err = until(ctx, func() (bool, error) {
				var gone bool
				err := conn.QueryRow(ctx, `SELECT pg_catalog.to_regclass($1) IS NULL`, partition).Scan(&gone)
				if err == nil && !gone {
					err = errors.New("the partition is still there")
				}
				return gone, err
			})
			return err
		})
	})
	if err != nil {
		return "", err
	}
	var after pruned
	if _, err := until(ctx, func() (bool, error) { // it counts right after the drop
		after, err = c.retired(ctx)
		if err == nil && after.partitions == before.partitions {
			err = errors.New("no node says that it dropped the partition")
		}
		return err == nil, err
	}); err != nil {
		return "", err
	}
	if rows := after.rows - before.rows; rows != expiredRows {
		return "", fmt.Errorf("the leader counted %d rows", rows)
	}
	return fmt.Sprintf("partition dropped after %v, %.0f MB freed; meanwhile %d reads of the database on all nodes, none failed, the slowest took %v",
		took.Round(10*time.Millisecond), float64(bytes)/1e6, readers.count, readers.slowest.Round(100*time.Microsecond)), nil
}

// fillExpired adds a partition before all others whose sessions expired long ago,
// and returns its name and size. The other end of time is what no node would
// make, so it is made by hand, in one transaction: a partition without a parent
// would be taken for one that was left behind.
func fillExpired(ctx context.Context, conn *pgx.Conn, names migrations.Names) (partition string, bytes int64, err error) {
	const width = 24
	err = inTx(ctx, conn, names, func(tx pgx.Tx) error {
		all, err := partitions(ctx, tx.Conn(), names)
		if err != nil {
			return err
		}
		hi := session.BucketOf(time.Now().Add(-3 * time.Hour))
		if len(all) > 0 {
			hi = min(hi, all[0].lo)
		}
		lo := hi - width
		partition = names.Qualify(names.PartitionPrefix + fmt.Sprint(lo))
		for _, sql := range []string{
			`CREATE TABLE ` + partition + ` (LIKE ` + names.Sessions + ` INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION) WITH (autovacuum_enabled = off)`,
			fmt.Sprintf(`INSERT INTO %s (key, bucket, version, expires_at, deadline, created_at, user_id, data)
SELECT pg_catalog.sha256(pg_catalog.int4send(i)), b, 1, t, t, t - interval '12 hours', 'user-' || i %% 1000, pg_catalog.decode(pg_catalog.repeat('78', 600), 'hex')
FROM pg_catalog.generate_series(1, %d) AS i, LATERAL (SELECT %d + i %% %d) AS x(b), pg_catalog.to_timestamp(b * 3600.0) AS t`, partition, expiredRows, lo, width),
			`COMMENT ON TABLE ` + partition + ` IS '` + strings.ReplaceAll(names.PartitionComment(lo, hi), `'`, `''`) + `'`,
			fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`, names.Sessions, partition, lo, hi),
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return tx.QueryRow(ctx, `SELECT pg_catalog.pg_total_relation_size($1::text::regclass)`, partition).Scan(&bytes)
	})
	return partition, bytes, err
}

type pruned struct {
	partitions int
	rows       int64
}

// retired adds up what the nodes say they have dropped.
func (c *postgresCheck) retired(ctx context.Context) (sum pruned, err error) {
	for _, n := range c.fleet.nodes {
		st, err := c.stats(ctx, n)
		if err != nil {
			return sum, err
		}
		sum.partitions += st.Stats.Pruned.Retired
		sum.rows += st.Stats.Pruned.Rows
	}
	return sum, nil
}
