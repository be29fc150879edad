package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
)

// sqliteCheck are the steps that need a file.
type sqliteCheck struct {
	*check
	db       *sqliteDB
	killedAt time.Time
}

func (d *sqliteDB) steps(common *check) []step {
	c := &sqliteCheck{check: common, db: d}
	return []step{
		{"keep the file locked: reads go on", stepLimit, c.keepLocked},
		{"5,000 expired sessions vanish", longLimit, c.expire},
		{"kill -9 a node that writes, the others go on", stepLimit, c.killWriter},
		{"another node prunes", stepLimit, c.nextPruner},
		{"start the killed node again", startLimit, c.startKilled},
		{"stop all nodes and start them again", longLimit, c.startAgain},
	}
}

// keepLocked keeps the write lock, as a program that is stopped would.
func (c *sqliteCheck) keepLocked(ctx context.Context) (string, error) {
	return c.whileLocked(ctx, func(ctx context.Context, _ string, during func() error) error {
		return c.db.with(ctx, func(db *sql.DB) error {
			conn, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := conn.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
				return err
			}
			err = during()
			_, endErr := conn.ExecContext(ctx, `ROLLBACK`)
			return errors.Join(err, endErr)
		})
	})
}

func (c *sqliteCheck) expire(ctx context.Context) (string, error) {
	names, err := migrations.NamesOf(migrations.DefaultTable)
	if err != nil {
		return "", err
	}
	detail, err := c.vanish(ctx, func(ctx context.Context, rows int) error {
		const atOnce = 1000 // the nodes get in between
		return c.db.with(ctx, func(db *sql.DB) error {
			for range rows / atOnce {
				_, err := db.ExecContext(ctx, `
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
INSERT INTO `+names.Sessions+` (key, bucket, kept_to, version, expires_at, deadline, created_at, user_id, data)
SELECT randomblob(32), 1, 1, 1, 1, 1, 0, 'user-' || i, randomblob(600) FROM n`, atOnce)
				if err != nil {
					return err
				}
			}
			return nil
		})
	}, func(ctx context.Context) (left int64, err error) {
		return left, c.db.with(ctx, func(db *sql.DB) error {
			return db.QueryRowContext(ctx, `SELECT count(*) FROM `+names.Sessions+` WHERE bucket = 1`).Scan(&left)
		})
	})
	if err != nil {
		return "", err
	}
	var free int64
	err = c.db.with(ctx, func(db *sql.DB) error {
		return db.QueryRowContext(ctx, `SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size`).Scan(&free)
	})
	return fmt.Sprintf("%s; %.0f MB of the file are free for others", detail, float64(free)/1e6), err
}

// killWriter kills a node in the middle of its writes: the one that has pruned
// last.
func (c *sqliteCheck) killWriter(ctx context.Context) (string, error) {
	const browsers, enough = 8, 200
	old, err := c.pruner(ctx, c.fleet.nodes, time.Time{})
	if err != nil {
		return "", err
	}
	other := c.others(old)[0]
	walter, _, err := c.somebodyIn(ctx, other, "walter")
	if err != nil {
		return "", err
	}
	crowd := make([]*browser, browsers)
	acknowledged := make([]int64, browsers)
	plenty := make(chan struct{}, browsers)
	var saves atomic.Int64
	var writers errgroup.Group
	for i := range crowd {
		b, v, err := c.somebodyIn(ctx, old, fmt.Sprint("wendy-", i))
		if err != nil {
			return "", err
		}
		crowd[i], acknowledged[i] = b, v.Version
		writers.Go(func() error {
			for n := 0; ; n++ {
				v, err := b.post(ctx, old, fmt.Sprint("/set?key=n&value=", n))
				if _, answered := errors.AsType[*refusal](err); answered || err != nil && ctx.Err() != nil {
					return err
				}
				if err != nil {
					return nil // the node is gone
				}
				acknowledged[i] = v.Version
				saves.Add(1)
				if n == enough/browsers {
					plenty <- struct{}{}
				}
			}
		})
	}
	for range browsers {
		select {
		case <-plenty:
		case <-ctx.Done():
			return "", errors.Join(context.Cause(ctx), writers.Wait())
		}
	}
	began := time.Now()
	c.killed, c.killedAt = old, began
	old.process().kill()
	if _, err := walter.post(ctx, other, "/set?key=after&value=kill"); err != nil {
		return "", fmt.Errorf("the next write: %w", err)
	}
	took := time.Since(began)
	if err := writers.Wait(); err != nil {
		return "", err
	}
	for i, b := range crowd {
		v, err := b.me(ctx, other)
		if err != nil {
			return "", err
		}
		if v.Version < acknowledged[i] {
			return "", fmt.Errorf("version %d was acknowledged, and it is version %d", acknowledged[i], v.Version)
		}
	}
	var whole string
	err = c.db.with(ctx, func(db *sql.DB) error {
		return db.QueryRowContext(ctx, `PRAGMA integrity_check`).Scan(&whole)
	})
	if err == nil && whole != "ok" {
		err = fmt.Errorf("integrity_check: %s", whole)
	}
	return fmt.Sprintf("%s killed; %s wrote %v later; %d saves acknowledged before, all there; integrity_check: %s",
		old.name, other.name, took.Round(100*time.Microsecond), saves.Load(), whole), err
}

// pruner is the node that has pruned last, and later than since.
func (c *check) pruner(ctx context.Context, among []*node, since time.Time) (last *node, err error) {
	_, err = until(ctx, func() (bool, error) {
		latest := since
		for _, n := range among {
			st, err := c.stats(ctx, n)
			if err != nil {
				return false, err
			}
			if at := st.Stats.Maintained; st.Stats.MaintainedBy == n.name && at.After(latest) {
				last, latest = n, at
			}
		}
		if last == nil {
			return false, errors.New("nobody has pruned")
		}
		return true, nil
	})
	return last, err
}

func (c *sqliteCheck) nextPruner(ctx context.Context) (string, error) {
	if c.killed == nil {
		return "", errors.New("no node was killed")
	}
	next, err := c.pruner(ctx, c.others(c.killed), c.killedAt)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s did so %v later; a node waits %v on average", next.name, time.Since(c.killedAt).Round(10*time.Millisecond), pruneInterval), nil
}

// startAgain stops all nodes at once: there is nobody left who has the file open.
func (c *sqliteCheck) startAgain(ctx context.Context) (string, error) {
	zoe, v, err := c.somebodyIn(ctx, c.fleet.nodes[0], "zoe")
	if err != nil {
		return "", err
	}
	if err := c.fleet.stop(ctx); err != nil {
		return "", err
	}
	if left, err := c.db.left(ctx); err != nil || len(left) > 0 {
		return "", fmt.Errorf("connections are left: %s, %v", strings.Join(left, ", "), err)
	}
	if err := c.fleet.start(ctx); err != nil {
		return "", err
	}
	for _, n := range c.fleet.nodes {
		if err := sees(ctx, n, zoe, v); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d processes, exit code 0 each; the session is there afterwards", len(c.fleet.nodes)), nil
}
