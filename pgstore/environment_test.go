package pgstore

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

// The suite in surroundings other than the usual, several at a time.
func TestConformanceWhereverTheServerAndHoweverTheDriver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode  pgx.QueryExecMode
		zone  string
		clock string // how much the server's differs from ours
	}{
		{pgx.QueryExecModeExec, "Asia/Kolkata", "1 hour"},
		{pgx.QueryExecModeSimpleProtocol, "America/St_Johns", "-1 hour"},
	} {
		t.Run(fmt.Sprintf("%v, %s, %s", c.mode, c.zone, c.clock), func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t).Database(t)
			admin := dbtest.Conn(t, dsn)
			statements := []string{fmt.Sprintf(`ALTER DATABASE %s SET timezone = '%s'`, quoted(admin.Config().Database), c.zone)}
			for _, sql := range append(statements, otherClock(c.clock)...) {
				if _, err := admin.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
			var number atomic.Int64
			sessiontest.Run(t, harness(func(t testing.TB) place {
				p := migratedAt(t, dsn, fmt.Sprintf("place %d", number.Add(1)), migrations.Settings{LeafWidth: 15 * 24 * time.Hour})
				p.pool = dbtest.Pool(t, dsn, inMode(c.mode))
				return p
			}))
		})
	}
}

// otherClock replaces the functions that tell the time in one database.
func otherClock(by string) (statements []string) {
	for _, f := range []string{"clock_timestamp", "statement_timestamp", "transaction_timestamp", "now"} {
		statements = append(statements,
			`ALTER FUNCTION pg_catalog.`+f+`() RENAME TO real_`+f,
			`CREATE FUNCTION pg_catalog.`+f+`() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT pg_catalog.real_`+f+`() + interval ''`+by+`'''`)
	}
	return statements
}

func TestEverythingWorksHoweverTheDriverSendsIt(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			s := p.by(t, p.dsn, inMode(mode)).open(t, quiet)
			for range 10 {
				everything(t, s)
			}
		})
	}
}
