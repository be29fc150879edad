package migrations

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// genericPlan is the plan that is made once for all keys.
func genericPlan(t testing.TB, conn *pgx.Conn, statement string) string {
	t.Helper()
	mustExec(t, conn, "SET plan_cache_mode = force_generic_plan")
	mustExec(t, conn, "PREPARE q (bytea, integer) AS "+statement)
	rows, err := conn.Query(t.Context(), `EXPLAIN EXECUTE q ('\x00', 1)`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, conn, "DEALLOCATE q")
	return strings.Join(lines, "\n")
}

// A plan made for an empty partition is kept while the partition fills, so it must use
// the index then already. Vacuum and analyze tell the planner how empty it is.
func TestPlansForEmptyPartitionsUseTheIndex(t *testing.T) {
	t.Parallel()
	s := dbtest.Start(t, dbtest.Config{Settings: map[string]string{"autovacuum_naptime": "1s"}})
	dsn := s.DSN("postgres")
	n := mustNames(t, Config{})
	mustUp(t, dsn, Config{})
	conn := dbtest.Conn(t, dsn)
	partitions := partitionsOf(t, conn, n)
	check := func(t *testing.T, when, partition string) {
		t.Helper()
		where := " WHERE key = $1 AND bucket = $2"
		for _, statement := range []string{
			"SELECT data FROM " + partition + where,
			"SELECT data FROM " + partition + where + " FOR UPDATE",
			"UPDATE " + partition + " SET expires_at = now()" + where,
			"SELECT data FROM " + n.Sessions + where,
		} {
			plan := genericPlan(t, conn, statement)
			usesIndex := strings.Contains(plan, "Index Scan using ") || strings.Contains(plan, "Subplans Removed")
			if !usesIndex || strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Bitmap") {
				t.Errorf("%s: %s\n%s", when, statement, plan)
			}
		}
		t.Logf("%s: %d pages, %v rows", when,
			queryOne[int](t, conn, "SELECT relpages FROM pg_class WHERE oid = to_regclass($1)", partition),
			queryOne[float32](t, conn, "SELECT reltuples FROM pg_class WHERE oid = to_regclass($1)", partition))
	}

	partition := n.Qualify(partitions[0].name)
	check(t, "new", partition)
	mustExec(t, conn, "ANALYZE "+partition)
	check(t, "analyzed", partition)
	for _, when := range []string{"vacuumed", "vacuumed twice"} {
		mustExec(t, conn, "VACUUM (ANALYZE) "+n.Sessions)
		mustExec(t, conn, "VACUUM ANALYZE "+partition)
		check(t, when, partition)
	}

	auto := n.Qualify(makePartition(t, conn, n, partitions[len(partitions)-1].hi))
	mustExec(t, conn, "ALTER TABLE "+auto+" SET (autovacuum_vacuum_insert_threshold = 0, autovacuum_analyze_threshold = 0)")
	dbtest.Eventually(t, "autovacuum has come by", func() bool {
		return queryOne[bool](t, conn, `SELECT last_autovacuum IS NOT NULL AND last_autoanalyze IS NOT NULL
			FROM pg_stat_all_tables WHERE relid = to_regclass($1)`, auto)
	})
	check(t, "vacuumed by the server", auto)

	// A partition that was full and whose sessions are all gone is no other case.
	for i := range 500 {
		insertLive(t, conn, n.Sessions, i, time.Hour)
	}
	mustExec(t, conn, "DELETE FROM "+n.Sessions+" WHERE version > 0")
	mustExec(t, conn, "VACUUM ANALYZE "+partition)
	check(t, "emptied and vacuumed", partition)
	mustExec(t, conn, "VACUUM (FULL, ANALYZE) "+partition)
	check(t, "rewritten", partition)
}
