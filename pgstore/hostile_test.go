package pgstore

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/rounds"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/session/sessiontest"
)

// hostile returns a function that makes a table for nodes with a role for which
// all that a role may set is set otherwise than statements need it. The table's
// database has a clock of its own and operators that lie. With readOnly maintenance has a connection of its own, since
// it stays away from servers that are set to take no writes.
func hostile(t testing.TB, level string, mode pgx.QueryExecMode, readOnly bool, more ...string) func(testing.TB) place {
	t.Helper()
	role := newRoles(t, "hostile ")[0]
	evil := append(otherClock("1 hour"), `CREATE SCHEMA evil`)
	for _, typ := range []string{"bytea", "text", "integer", "bigint", "timestamptz", "boolean"} {
		evil = append(evil, `CREATE FUNCTION evil.never(pg_catalog.`+unalias(typ)+`, pg_catalog.`+unalias(typ)+`) RETURNS pg_catalog.bool LANGUAGE sql AS 'SELECT false'`)
		for _, op := range []string{"=", "<>", "<", "<=", ">", ">="} {
			evil = append(evil, `CREATE OPERATOR evil.`+op+` (LEFTARG = pg_catalog.`+unalias(typ)+`, RIGHTARG = pg_catalog.`+unalias(typ)+`, FUNCTION = evil.never)`)
		}
	}
	settings := []string{
		"default_transaction_isolation = '" + level + "'", "default_transaction_deferrable = on",
		"search_path = evil, pg_catalog", "DateStyle = 'German'", "IntervalStyle = 'sql_standard'", "TimeZone = 'Asia/Kolkata'",
		"bytea_output = 'escape'", "array_nulls = off", "transform_null_equals = on", "quote_all_identifiers = on",
		"extra_float_digits = -15", "row_security = off", "lock_timeout = '1ms'",
		"idle_in_transaction_session_timeout = '1ms'", "plan_cache_mode = 'force_custom_plan'", "from_collapse_limit = 1",
		"enable_indexscan = off", "enable_partition_pruning = off", "default_toast_compression = 'pglz'",
	}
	settings = append(settings, more...)
	if readOnly {
		settings = append(settings, "default_transaction_read_only = on")
	}
	if mode != pgx.QueryExecModeSimpleProtocol { // which the driver refuses with these
		settings = append(settings, "client_encoding = 'LATIN1'", "standard_conforming_strings = off")
	}
	made := []string{`CREATE ROLE ` + quoted(role) + ` LOGIN SUPERUSER`}
	for _, set := range settings {
		made = append(made, `ALTER ROLE `+quoted(role)+` SET `+set)
	}
	execAll(t, dbtest.Postgres(t).DSN("postgres"), made)
	return func(t testing.TB) place {
		p := migratedWith(t, migrations.Settings{}, evil...)
		p.as, p.mode = role, mode
		if readOnly {
			p.direct = p.dsn
		}
		return p
	}
}

func unalias(typ string) string {
	return strings.NewReplacer("integer", "int4", "bigint", "int8", "boolean", "bool").Replace(typ)
}

// No setting, no node's clock and no time zone decides anything, and nothing
// depends on prepared statements.
func TestConformanceWhateverIsSet(t *testing.T) {
	t.Parallel()
	var more []string
	if !testing.Short() { // it makes statements read whole partitions
		more = append(more, "enable_nestloop = off")
	}
	sessiontest.Run(t, harness(hostile(t, "serializable", pgx.QueryExecModeExec, true, more...)))
}

func TestRacesWhateverIsSet(t *testing.T) {
	t.Parallel()
	settings := []struct {
		level string
		mode  pgx.QueryExecMode
	}{
		{"serializable", pgx.QueryExecModeExec},
		{"repeatable read", 0},
		{"repeatable read", pgx.QueryExecModeSimpleProtocol},
	}
	for _, c := range settings[:rounds.Of(len(settings))] {
		t.Run(fmt.Sprintf("%s, %v", c.level, c.mode), func(t *testing.T) {
			t.Parallel()
			at := hostile(t, c.level, c.mode, false, "enable_nestloop = off") // rows are locked in another order
			p := at(t)
			s := p.node(t, Options{CacheBytes: 8 << 20, OnError: func(err error) { t.Log(err) }}, 4)
			dbtest.Eventually(t, "the cache has a lease", func() bool { return isLeased(s) })
			everything(t, s)
			destroyUserEndsWhatIsBeingRenewed(t, at(t), 6)
			aLimitHolds(t, at(t), session.UserLimit{Max: 3, Evict: true})
			aLimitHolds(t, at(t), session.UserLimit{Max: 3})
			clearEndsWhatIsBeingRenewed(t, at(t), 1)
			oneKeyIsInOneRow(t, at(t), 20)
		})
	}
}

// The note that foreign keys are in use is in a row that passes and other nodes write
// too.
func TestTheNoteOfForeignKeysWaitsForItsRow(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{WriteTimeout: dbtest.Patience}, 4)
	_, commit := p.foreign(t, `SELECT FROM `+p.names(t).Meta+` FOR UPDATE`)
	rec := session.Record{Key: session.ForeignKey("test", "note"), Deadline: s.Now().Add(time.Hour)}
	put := async(func() error { _, err := s.Put(context.Background(), rec); return err })
	dbtest.Eventually(t, "the write of the note is repeated", func() bool { return s.Stats().Retries > 2 || len(put) > 0 })
	commit()
	wantErr(t, "Put", <-put, nil)
}

func TestOneForeignKeyIsInOneRow(t *testing.T) {
	t.Parallel()
	oneKeyIsInOneRow(t, migrated(t), 100)
}

// oneKeyIsInOneRow has two nodes put one key at a time, for different deadlines.
func oneKeyIsInOneRow(t *testing.T, p place, keys int) {
	nodes := []*Store{p.node(t, Options{}, 4), p.node(t, Options{}, 4)}
	concurrently(t, 2, rounds.Of(keys/2), func(n int) {
		key := session.ForeignKey("test", fmt.Sprint(n))
		var puts []<-chan error
		for i, s := range nodes {
			deadline := s.Now().Add(time.Duration(1+20*i) * 24 * time.Hour)
			puts = append(puts, async(func() error {
				_, err := s.Put(t.Context(), session.Record{Key: key, Deadline: deadline, Data: []byte{byte(i)}})
				return err
			}))
		}
		for _, err := range results(puts) {
			wantErr(t, "Put", err, nil)
		}
	})
	if n := query[int](t, p, `SELECT count(*) FROM (SELECT key FROM `+p.names(t).Sessions+` WHERE version > 0 GROUP BY key HAVING count(*) > 1) AS k`); n != 0 {
		t.Errorf("%d of %d keys stand in two rows", n, keys)
	}
}
