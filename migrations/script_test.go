package migrations

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// catalog describes everything in a schema but what differs between two runs
// at different times.
func catalog(t testing.TB, conn *pgx.Conn, n Names) string {
	t.Helper()
	var out strings.Builder
	for _, q := range []string{
		`SELECT 'schema ' || nspname || ' ' || nspowner::regrole || ' ' || coalesce(nspacl::text, '') FROM pg_namespace WHERE nspname = $1`,
		`SELECT format('relation %s %s %s %s %s %s %s %s %s', c.relname, c.relkind, c.relpersistence, c.relowner::regrole, c.relacl, c.reloptions, t.reloptions,
				pg_get_expr(c.relpartbound, c.oid), obj_description(c.oid, 'pg_class'))
			FROM pg_class AS c LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)`,
		`SELECT format('column %s %s %s %s %s %s %s %s', c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage, a.attcompression, a.attacl)
			FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)`,
		`SELECT format('default %s %s %s', c.relname, d.adnum, pg_get_expr(d.adbin, d.adrelid))
			FROM pg_attrdef AS d JOIN pg_class AS c ON c.oid = d.adrelid WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)`,
		`SELECT format('constraint %s %s %s', r.conrelid::regclass, r.conname, pg_get_constraintdef(r.oid))
			FROM pg_constraint AS r WHERE r.connamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)`,
		`SELECT format('index %s %s %s', i.indexrelid::regclass, i.indisvalid, pg_get_indexdef(i.indexrelid))
			FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)`,
		`SELECT format('function %s %s %s', p.proowner::regrole, p.proacl, pg_get_functiondef(p.oid))
			FROM pg_proc AS p WHERE p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)`,
		`SELECT format('member %s %s', m.roleid::regrole, m.member::regrole) FROM pg_auth_members AS m
			WHERE $1 <> '' AND m.roleid = (SELECT relowner FROM pg_class WHERE oid = ` + literal(n.Sessions) + `::regclass)`,
		`SELECT format('version %s', version) FROM ` + n.Version + ` WHERE $1 <> ''`,
		`SELECT 'meta ' || (to_jsonb(m) - 'created_at' - 'changed_at')::text FROM ` + n.Meta + ` AS m WHERE $1 <> ''`,
	} {
		rows, err := conn.Query(t.Context(), `SELECT x FROM (`+q+`) AS q(x) ORDER BY x COLLATE "C"`, n.Schema)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		out.WriteString(strings.Join(lines, "\n") + "\n")
	}
	return out.String()
}

func TestSQLGivesWhatUpGives(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	for _, name := range strangeNames {
		t.Run(name.schema, func(t *testing.T) {
			t.Parallel()
			roles := roleNames(t, s, "Owner", `main"tainer'`, "$app\\")
			cfg := Config{
				Schema: name.schema, Table: name.table,
				Settings: Settings{Lease: 3e9, PartitionWidth: fewPartitions.PartitionWidth},
				Roles:    Roles{Owner: roles[0], Maintainer: roles[1], App: roles[2]},
			}
			n := mustNames(t, cfg)
			for {
				byUp, bySQL := s.Database(t), s.Database(t)
				up, sql := dbtest.Conn(t, byUp), dbtest.Conn(t, bySQL)
				hour := hourNow(t, up)
				mustUp(t, byUp, cfg)

				text, err := SQL(cfg)
				if err != nil {
					t.Fatal(err)
				}
				// The setting is one that changes what a text constant means.
				mustExec(t, sql, "SET standard_conforming_strings = off; SET escape_string_warning = off")
				if err := sql.PgConn().Exec(t.Context(), text).Close(); err != nil {
					t.Fatal(err)
				}
				mustExec(t, sql, "RESET ALL")
				want, got := catalog(t, up, n), catalog(t, sql, n)
				if hourNow(t, up) != hour {
					continue // the first partition may be another one now
				}
				if got != want {
					t.Errorf("%s", firstDifference(want, got))
				}
				if strings.Count(want, "\n") < 50 {
					t.Errorf("the catalogs hold too little: %s", want)
				}

				mustUp(t, bySQL, cfg)
				if after := catalog(t, sql, n); after != got {
					t.Errorf("Up changed what SQL had made: %s", firstDifference(got, after))
				}
				if err := Validate(t.Context(), sql, cfg); err != nil {
					t.Error(err)
				}
				return
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return "\n want " + w[i] + "\n got  " + g[i]
		}
	}
	return "one is longer"
}

func TestSQLRunsInPsql(t *testing.T) {
	t.Parallel()
	psql, err := exec.LookPath("psql")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("psql is not installed; the statements are also tried without it: apt-get install postgresql-client")
	}
	for _, name := range strangeNames {
		dsn := dbtest.Postgres(t).Database(t)
		cfg := Config{Schema: name.schema, Table: name.table, Settings: fewPartitions}
		text, err := SQL(cfg)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "name=broken", dsn)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%q: %v: %s", name.table, err, out)
		}
		if err := Validate(t.Context(), dbtest.Conn(t, dsn), cfg); err != nil {
			t.Error(err)
		}
	}
}

func TestFailedSQLLeavesNothing(t *testing.T) {
	t.Parallel()
	conn := dbtest.Conn(t, dbtest.Postgres(t).Database(t))
	text, err := SQL(Config{})
	if err != nil {
		t.Fatal(err)
	}
	text = strings.Replace(text, "COMMIT;", "SELECT 1/0;\nCOMMIT;", 1)
	if err := conn.PgConn().Exec(t.Context(), text).Close(); code(err) != "22012" {
		t.Fatalf("got %v, want a division by zero", err)
	}
	mustExec(t, conn, "ROLLBACK")
	if queryOne[bool](t, conn, "SELECT to_regnamespace('sojourn') IS NOT NULL") {
		t.Error("there is a schema")
	}
}

func TestVersionIsThatOfTheNewestMigration(t *testing.T) {
	t.Parallel()
	s, err := newScript(Config{}, FS())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.steps) != Version {
		t.Errorf("%d migrations, Version is %d", len(s.steps), Version)
	}
	for _, step := range s.steps {
		if step.DownSQL != "" {
			t.Errorf("%s has a way down", step.Name)
		}
	}
}
