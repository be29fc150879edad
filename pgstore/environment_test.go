package pgstore

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

// The suite in surroundings other than the usual, two or three at a time.
func TestConformanceWhereverTheServerAndHoweverTheDriver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode  pgx.QueryExecMode
		zone  string
		clock string // how much the server's differs from ours
	}{
		{pgx.QueryExecModeExec, "Asia/Kolkata", "1 hour"},
		{pgx.QueryExecModeSimpleProtocol, "America/St_Johns", "-1 hour"},
		{pgx.QueryExecModeDescribeExec, "Pacific/Chatham", ""},
		{pgx.QueryExecModeCacheDescribe, "UTC", "-90 minutes"},
	} {
		t.Run(fmt.Sprintf("%v, %s, %s", c.mode, c.zone, c.clock), func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t).Database(t)
			admin := dbtest.Conn(t, dsn)
			statements := []string{fmt.Sprintf(`ALTER DATABASE %s SET timezone = '%s'`, quoted(admin.Config().Database), c.zone)}
			if c.clock != "" {
				statements = append(statements, otherClock(c.clock)...)
			}
			for _, sql := range statements {
				if _, err := admin.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
			var number atomic.Int64
			sessiontest.Run(t, harness(func(t testing.TB) place {
				p := migratedAt(t, dsn, fmt.Sprintf("place %d", number.Add(1)), migrations.Settings{})
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
