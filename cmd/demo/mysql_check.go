package main

import (
	"context"
	"database/sql"
	"errors"

	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
)

// mysqlCheck are the steps that need MySQL or MariaDB.
type mysqlCheck struct {
	*check
	db *mysqlDB
}

func (d *mysqlDB) steps(common *check) []step {
	c := &mysqlCheck{common, d}
	return []step{
		{"keep a session's row locked: reads go on", stepLimit, c.keepLocked},
		{"5,000 expired sessions vanish", longLimit, c.expire},
		{"kill -9 the leader, another takes over", stepLimit, c.killLeader},
		{"start the killed node again", startLimit, c.startKilled},
		{"survive a restart of MariaDB", longLimit, c.restartServer},
	}
}

// keepLocked keeps the row of a session locked.
func (c *mysqlCheck) keepLocked(ctx context.Context) (string, error) {
	names, err := migrations.NamesOf(c.db.table)
	if err != nil {
		return "", err
	}
	return c.whileLocked(ctx, func(ctx context.Context, user string, during func() error) error {
		return c.db.with(func(db *sql.DB) error {
			var hash []byte
			if err := db.QueryRowContext(ctx, `SELECT hash FROM `+names.Sessions+` WHERE user_id = ?`, user).Scan(&hash); err != nil {
				return err
			}
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			err = tx.QueryRowContext(ctx, `SELECT hash FROM `+names.Sessions+` WHERE hash = ? FOR UPDATE`, hash).Scan(&hash)
			if err == nil {
				err = during()
			}
			return errors.Join(err, tx.Rollback())
		})
	})
}

func (c *mysqlCheck) expire(ctx context.Context) (string, error) {
	names, err := migrations.NamesOf(c.db.table)
	if err != nil {
		return "", err
	}
	return c.vanish(ctx, c.fill, func(ctx context.Context) (left int64, err error) {
		return left, c.db.with(func(db *sql.DB) error {
			return db.QueryRowContext(ctx, `SELECT count(*) FROM `+names.Sessions+` WHERE bucket = 1`).Scan(&left)
		})
	})
}

// fill adds sessions that expired long ago.
func (c *mysqlCheck) fill(ctx context.Context, rows int) error {
	names, err := migrations.NamesOf(c.db.table)
	if err != nil {
		return err
	}
	return c.db.with(func(db *sql.DB) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		// What limits a recursion has another name on each.
		limit := `SET SESSION cte_max_recursion_depth = 1000000`
		if c.db.isMariaDB() {
			limit = `SET SESSION max_recursive_iterations = 1000000`
		}
		if _, err := conn.ExecContext(ctx, limit); err != nil {
			return err
		}
		_, err = conn.ExecContext(ctx, `
INSERT INTO `+names.Sessions+` (hash, bucket, kept_to, version, expires_at, deadline, created_at, user_id, data)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
SELECT UNHEX(SHA2(i, 256)), 1, 1, 1, 1, 1, 0, CONCAT('user-', i % 1000), REPEAT('x', 600) FROM n`, rows)
		return err
	})
}

func (c *mysqlCheck) restartServer(ctx context.Context) (string, error) {
	if c.db.server == nil {
		return "", notOurs
	}
	return c.restart(ctx, c.db.server)
}
