package story

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	mysqlmigrations "github.com/sojourn-go/sojourn/migrations/mysql"
	sqlitemigrations "github.com/sojourn-go/sojourn/migrations/sqlite"
	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/sqlitestore"
)

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func TestPostgres(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.Config{})
	url := server.Database(t)
	d := startDemo(t, "postgres", "SOJOURN_PG_URL="+url)
	users := d.arrive(t)
	users.goBackAndForth(t, 1000)
	aNodeIsKilled(t, d, users)
	theLeaderIsKilled(t, d, users)
	aPartitionOfExpiredSessionsIsDropped(t, users, url)
	aFrozenNodeMissesALogout(t, d)
	theServerRestarts(t, d, users, server.Stop, func() { server.Restart(t) })
	users.leave(t)
	d.stop(t, users, server.Log())
	left, err := schemaOf(t.Context(), dbtest.Conn(t, url))
	if err == nil {
		t.Errorf("the schema %s is left", left)
	}
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	server := dbtest.StartMariaDB(t, dbtest.MySQLConfig{})
	dsn := server.Database(t)
	d := startDemo(t, "mysql", "SOJOURN_MYSQL_DSN="+dsn)
	users := d.arrive(t)
	aNodeIsKilled(t, d, users)
	theLeaderIsKilled(t, d, users)
	db := dbtest.DB(t, dsn, nil)
	var table string // of several tables whose names begin with it
	if err := db.QueryRowContext(t.Context(), `
SELECT MIN(table_name) FROM information_schema.tables WHERE table_schema = DATABASE()`).Scan(&table); err != nil {
		t.Fatal(err)
	}
	names, err := mysqlmigrations.NamesOf(table)
	if err != nil {
		t.Fatal(err)
	}
	expiredSessionsAreDeleted(t, users, db, names.Sessions, `
INSERT INTO `+names.Sessions+` (hash, bucket, kept_to, version, expires_at, deadline, created_at, user_id, data)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)
SELECT UNHEX(SHA2(i, 256)), 1, 1, 1, 1, 1, 0, CONCAT('user-', i), REPEAT('x', 600) FROM n`)
	theServerRestarts(t, d, users, server.Stop, func() { server.Restart(t) })
	users.leave(t)
	d.stop(t, users, server.Log())
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "sqlite", "")
	users := d.arrive(t)
	aNodeIsKilled(t, d, users)
	_, path, _ := strings.Cut(d.line(t, "SQLite, file "), "SQLite, file ")
	db, err := sql.Open("sqlite", sqlitestore.DSN(path))
	if err != nil {
		t.Fatal(err)
	}
	names, err := sqlitemigrations.NamesOf(sqlitemigrations.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	expiredSessionsAreDeleted(t, users, db, names.Sessions, `
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900)
INSERT INTO `+names.Sessions+` (key, bucket, kept_to, version, expires_at, deadline, created_at, user_id, data)
SELECT randomblob(32), 1, 1, 1, 1, 1, 0, 'user-' || i, randomblob(600) FROM n`)
	var whole string
	if err := db.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&whole); err != nil || whole != "ok" {
		t.Errorf("integrity_check: %s, %v", whole, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	users.leave(t)
	d.stop(t, users, "")
}

// aNodeIsKilled kills a node that does not lead, in the middle of its work. The
// others go on, and it comes back to the same sessions.
func aNodeIsKilled(t *testing.T, d *demo, users *users) {
	n := d.nodes[0]
	if leader := d.leader(); leader == n {
		n = d.nodes[1]
	}
	d.kill(t, n)
	users.goOn(t)
	d.awaitReturn(t, n)
	users.goOn(t)
}

// theLeaderIsKilled kills the process that leads, and waits for another one.
func theLeaderIsKilled(t *testing.T, d *demo, users *users) {
	var old *node
	dbtest.Eventually(t, "a leader", func() bool { old = d.leader(); return old != nil })
	pid := old.process()
	d.kill(t, old)
	began := time.Now()
	users.goOn(t)
	var next *node
	dbtest.Eventually(t, "another leader", func() bool { next = d.leader(); return next != nil && next.process() != pid })
	t.Logf("%s was killed, and %s was seen to lead %v later", old.name, next.name, time.Since(began).Round(time.Millisecond))
	d.awaitReturn(t, old)
}

// theServerRestarts stops the database. All nodes say so, nobody loses a cookie,
// and all is as before when it is back.
func theServerRestarts(t *testing.T, d *demo, users *users, stop, restart func()) {
	b := newBrowser(d.connections)
	if status, err := b.send(d.nodes[0], http.MethodPost, "/login?user=laura", nil); status != http.StatusOK {
		t.Errorf("login: %d, %v", status, err)
	}
	id := d.secret(b)
	stop()
	for _, n := range d.nodes {
		dbtest.Eventually(t, n.name+" says that the database is away", func() bool {
			status, _ := b.send(n, http.MethodGet, "/me", nil)
			return status == http.StatusServiceUnavailable
		})
	}
	if d.secret(b) != id {
		t.Error("the outage took the cookie away")
	}
	restart()
	for _, n := range d.nodes {
		dbtest.Eventually(t, n.name+" knows the session again", func() bool {
			status, _ := b.send(n, http.MethodGet, "/me", nil)
			return status == http.StatusOK
		})
	}
	users.goOn(t)
}

// aFrozenNodeMissesALogout freezes a process that has a session in its memory. A
// logout on all nodes waits until that memory is too old to be used.
func aFrozenNodeMissesALogout(t *testing.T, d *demo) {
	frozen, other := d.nodes[2], d.nodes[0]
	b := newBrowser(d.connections)
	if status, err := b.send(other, http.MethodPost, "/login?user=trent", nil); status != http.StatusOK {
		t.Fatalf("login: %d, %v", status, err)
	}
	dbtest.Eventually(t, frozen.name+" answers from its memory", func() bool {
		before, err := frozen.stats()
		if err != nil {
			return false
		}
		if status, _ := b.send(frozen, http.MethodGet, "/me", nil); status != http.StatusOK {
			return false
		}
		after, err := frozen.stats()
		return err == nil && after.Stats.Cache.Hits > before.Stats.Cache.Hits
	})
	stolen := d.thief(d.secret(b))
	resume := freeze(t, frozen)
	defer resume()
	if status, err := b.send(other, http.MethodPost, "/logout?nodes=all", nil); status != http.StatusOK {
		t.Errorf("logout: %d, %v", status, err)
	}
	resume()
	dbtest.Eventually(t, frozen.name+" refuses, and until then it has no answer", func() bool {
		status, _ := stolen.send(frozen, http.MethodGet, "/me", nil)
		if status == http.StatusOK {
			t.Errorf("%s served a session that no node could serve any more", frozen.name)
		}
		return status == http.StatusUnauthorized || t.Failed()
	})
}

// schemaOf returns the schema of the demo.
func schemaOf(ctx context.Context, conn *pgx.Conn) (schema string, err error) {
	err = conn.QueryRow(ctx, `SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname LIKE 'sojourn%'`).Scan(&schema)
	return schema, err
}

// aPartitionOfExpiredSessionsIsDropped adds a partition before all others whose
// sessions expired long ago. It is made by hand and in one transaction: a partition
// without a parent would be taken for one that was left behind.
func aPartitionOfExpiredSessionsIsDropped(t *testing.T, users *users, url string) {
	const rows, width = 50_000, 24
	ctx := t.Context()
	conn := dbtest.Conn(t, url)
	schema, err := schemaOf(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	names, err := migrations.NamesOf(schema, migrations.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	lo := session.BucketOf(time.Now()) - 100*width
	partition := names.Qualify(names.PartitionPrefix + fmt.Sprint(lo))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range []string{
			fmt.Sprintf(`SELECT pg_catalog.pg_advisory_xact_lock(%d)`, names.DDLKey),
			`CREATE TABLE ` + partition + ` (LIKE ` + names.Sessions + ` INCLUDING CONSTRAINTS INCLUDING STORAGE)`,
			fmt.Sprintf(`INSERT INTO %s (key, bucket, version, expires_at, deadline, created_at, user_id, data)
SELECT pg_catalog.sha256(pg_catalog.int4send(i)), b, 1, t, t, t - interval '12 hours', 'user-' || i %% 1000, '\x78'
FROM pg_catalog.generate_series(1, %d) AS i, LATERAL (SELECT %d + i %% %d) AS x(b), pg_catalog.to_timestamp(b * 3600.0) AS t`,
				partition, rows, lo, width),
			`COMMENT ON TABLE ` + partition + ` IS '` + strings.ReplaceAll(names.PartitionComment(lo, lo+width), `'`, `''`) + `'`,
			fmt.Sprintf(`ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`, names.Sessions, partition, lo, lo+width),
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	dbtest.Eventually(t, "the end of the partition", func() bool {
		var gone bool
		err := conn.QueryRow(ctx, `SELECT pg_catalog.to_regclass($1) IS NULL`, partition).Scan(&gone)
		return err == nil && gone
	})
	t.Logf("a partition of %d sessions was dropped after %v", rows, time.Since(began).Round(time.Millisecond))
	users.goOn(t)
}

// expiredSessionsAreDeleted adds sessions that expired long ago, where there are no
// partitions.
func expiredSessionsAreDeleted(t *testing.T, users *users, db *sql.DB, table, insert string) {
	ctx := t.Context()
	if _, err := db.ExecContext(ctx, insert); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, "the end of the expired sessions", func() bool {
		var left int
		err := db.QueryRowContext(ctx, `SELECT count(*) FROM `+table+` WHERE bucket = 1`).Scan(&left)
		return err == nil && left == 0
	})
	users.goOn(t)
}
