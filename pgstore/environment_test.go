package pgstore

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/migrations"
)

// elsewhere makes a table in a database in another time zone, whose clock
// differs from ours by an interval. Only that database's functions to tell the
// time do.
func elsewhere(t testing.TB, settings migrations.Settings, zone, interval string) place {
	t.Helper()
	p := migratedWith(t, settings, otherClock(interval)...)
	p.exec(t, `ALTER DATABASE `+quoted(p.pool.Config().ConnConfig.Database)+` SET timezone = '`+zone+`'`)
	p.pool.Reset() // its connections have the time zone of before
	return p
}

func otherClock(interval string) (statements []string) {
	for _, f := range clockFunctions {
		statements = append(statements, `ALTER FUNCTION pg_catalog.`+f+`() RENAME TO real_`+f, clockFunction(f, interval))
	}
	return statements
}

var clockFunctions = []string{"clock_timestamp", "statement_timestamp", "transaction_timestamp", "now"}

// clockFunction has one of them tell another time than the real one.
func clockFunction(name, interval string) string {
	return `CREATE OR REPLACE FUNCTION pg_catalog.` + name + `() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT pg_catalog.real_` + name + `() + interval ''` + interval + `'''`
}

func TestEverythingWorksHoweverTheDriverSendsIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode           pgx.QueryExecMode
		zone, interval string
	}{
		{pgx.QueryExecModeCacheStatement, "America/St_Johns", "-1 hour"},
		{pgx.QueryExecModeCacheDescribe, "Pacific/Chatham", "25 hours"},
		{pgx.QueryExecModeDescribeExec, "Asia/Kolkata", "-25 hours"},
		{pgx.QueryExecModeExec, "America/Caracas", "-30 minutes"},
		{pgx.QueryExecModeSimpleProtocol, "Asia/Kolkata", "1 hour"},
	} {
		t.Run(fmt.Sprintf("%v, %s, %s", c.mode, c.zone, c.interval), func(t *testing.T) {
			t.Parallel()
			p := elsewhere(t, migrations.Settings{}, c.zone, c.interval)
			past, now := p.ended(t, 10), p.hour(t)
			s := p.by(t, p.dsn, inMode(c.mode)).open(t, quiet)
			for range 5 {
				everything(t, s)
			}
			if p.exists(t, past.name) {
				t.Error("the partition that is over is still there")
			}
			p.covered(t, now+1, now+30*24+24)
		})
	}
}
