package migrations

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// login makes a role that can log in and is a member of groups.
func login(t testing.TB, admin *pgx.Conn, name, attributes string, groups ...string) {
	t.Helper()
	mustExec(t, admin, "CREATE ROLE "+quoted(name)+" LOGIN "+attributes)
	for _, group := range groups {
		mustExec(t, admin, "GRANT "+quoted(group)+" TO "+quoted(name))
	}
}

func TestRolesCanDoWhatTheyAreForAndNoMore(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	for _, schema := range []string{"sojourn", "public"} {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			r := roleNames(t, s, "Migrator ", "leader'", "app\\", "Own er", `maint"ainer`, "APP %s")
			migrator, leader, app := r[0], r[1], r[2]
			dsn := s.Database(t)
			admin := dbtest.Conn(t, dsn)
			// No superuser: what a deployment on a hosted server has.
			login(t, admin, migrator, "CREATEROLE")
			mustExec(t, admin, "GRANT CREATE ON DATABASE "+quoted(parse(t, dsn).Database)+" TO "+quoted(migrator))
			if schema == "public" {
				mustExec(t, admin, "ALTER SCHEMA public OWNER TO "+quoted(migrator))
				mustExec(t, admin, "REVOKE CREATE ON SCHEMA public FROM PUBLIC") // the default since version 15
			}
			cfg := Config{Schema: schema, Roles: Roles{Owner: r[3], Maintainer: r[4], App: r[5]}}
			n := mustNames(t, cfg)
			for range 2 {
				if err := Up(t.Context(), as(t, dsn, migrator), cfg); err != nil {
					t.Fatal(err)
				}
			}
			login(t, admin, leader, "", cfg.Roles.Maintainer)
			login(t, admin, app, "", cfg.Roles.App)

			if got := queryOne[int](t, admin, `SELECT count(*)::int FROM pg_class AS c WHERE c.relnamespace = to_regnamespace($1)
				AND c.relkind IN ('r', 'p') AND c.relowner <> (SELECT oid FROM pg_roles WHERE rolname = $2)`, quoted(schema), cfg.Roles.Owner); got != 0 {
				t.Errorf("%d tables do not belong to the owner", got)
			}
			t.Run("app", func(t *testing.T) { appRole(t, connectAs(t, dsn, app), admin, n, cfg) })
			t.Run("maintainer", func(t *testing.T) { maintainerRole(t, connectAs(t, dsn, leader), n, cfg) })
			t.Run("migrator", func(t *testing.T) {
				if err := up(t.Context(), as(t, dsn, migrator), cfg, withSecond(t, secondCompatible)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func appRole(t *testing.T, conn, admin *pgx.Conn, n Names, cfg Config) {
	if err := Validate(t.Context(), conn, cfg); err != nil {
		t.Error(err)
	}
	if _, err := LoadSettings(t.Context(), conn, cfg); err != nil {
		t.Error(err)
	}
	if err := Up(t.Context(), conn.Config(), cfg); err != nil {
		t.Errorf("Up, with nothing to do: %v", err)
	}
	partitions := partitionsOf(t, conn, n)
	next := makePartition(t, conn, n, partitions[len(partitions)-1].hi)
	if got := queryOne[string](t, admin, "SELECT r.rolname::text FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner WHERE c.oid = to_regclass($1)", n.Qualify(next)); got != cfg.Roles.Owner {
		t.Errorf("the new partition belongs to %q, want %q", got, cfg.Roles.Owner)
	}
	insertLive(t, conn, n.Sessions, 1, time.Hour)
	partition := n.Qualify(makePartition(t, conn, n, hourNow(t, conn)+1))
	for _, table := range []string{n.Sessions, partition, n.Qualify(next)} {
		mustExec(t, conn, "SELECT key FROM "+table+" FOR UPDATE")
		mustExec(t, conn, "UPDATE "+table+" SET version = version + 1")
		mustExec(t, conn, "DELETE FROM "+table)
	}
	mustExec(t, conn, "UPDATE "+n.Meta+" SET maintained_at = now(), maintained_by = 'me', made_at = now(), made_by = 'me', retired_at = now(), retired_by = 'me', thinned_at = now(), thinned_by = 'me', foreign_keys = true")

	if _, err := SetSettings(t.Context(), conn, cfg, Settings{Lease: time.Second}); !errors.Is(err, ErrPermission) {
		t.Errorf("SetSettings: got %v, want ErrPermission", err)
	}
	for _, sql := range []string{
		"CREATE TABLE " + n.Qualify("mine") + " (a int)",
		"DROP TABLE " + n.Qualify(next),
		"ALTER TABLE " + n.Sessions + " DETACH PARTITION " + n.Qualify(next),
		"ALTER TABLE " + n.Sessions + " ADD COLUMN a int",
		"TRUNCATE " + n.Sessions,
		"UPDATE " + n.Meta + " SET schema_version = 7",
		"DELETE FROM " + n.Meta,
		"SELECT 1 FROM " + n.Version,
		"DROP FUNCTION " + n.MakePartition,
		"SET ROLE " + quoted(cfg.Roles.Owner),
	} {
		if _, err := conn.Exec(t.Context(), sql); code(err) != "42501" {
			t.Errorf("%s: got %v, want 42501", sql, err)
		}
	}
	mustExec(t, conn, "GRANT SELECT ON "+n.Sessions+" TO PUBLIC") // only a warning
	if queryOne[bool](t, admin, "SELECT EXISTS (SELECT FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE c.oid = to_regclass($1) AND a.grantee = 0)", n.Sessions) {
		t.Error("the application has granted what is not its own")
	}

	// What the caller puts in the way does not reach the function.
	for _, sql := range []string{
		"CREATE TEMP TABLE pg_inherits (inhrelid oid, inhparent oid, inhdetachpending bool)", "CREATE TEMP TABLE pg_class (oid oid)",
		"CREATE FUNCTION pg_temp.floor(numeric) RETURNS numeric LANGUAGE sql AS 'SELECT 0::numeric'",
		"SET search_path = pg_temp, pg_catalog", "SET standard_conforming_strings = off", "SET escape_string_warning = off", "SET TimeZone = 'Asia/Kolkata'",
		"SET plpgsql.extra_errors = 'all'", "SET bytea_output = 'escape'",
	} {
		mustExec(t, conn, sql)
	}
	for i := range int32(2) { // the first may be from a plan that was made before
		mustExec(t, conn, "DISCARD PLANS")
		if got := makePartition(t, conn, n, partitions[len(partitions)-1].hi+i); got != next {
			t.Errorf("got %s, want %s", got, next)
		}
	}
}

func maintainerRole(t *testing.T, conn *pgx.Conn, n Names, cfg Config) {
	if err := Validate(t.Context(), conn, cfg); err != nil {
		t.Error(err)
	}
	insertLive(t, conn, n.Sessions, 2, 100*time.Hour)
	partition := n.Qualify(makePartition(t, conn, n, hourNow(t, conn)+100))
	b := partitionsOf(t, conn, n)
	last := b[len(b)-1]
	for _, sql := range []string{
		"ALTER TABLE " + partition + " SET (autovacuum_enabled = off)",
		"ALTER TABLE " + n.Sessions + " DETACH PARTITION " + partition + " CONCURRENTLY",
		"DROP TABLE " + partition,
		fmt.Sprintf("ALTER TABLE %s DETACH PARTITION %s", n.Sessions, n.Qualify(last.name)),
		fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)", n.Sessions, n.Qualify(last.name), last.lo, last.hi),
	} {
		mustExec(t, conn, sql)
	}
	if _, err := SetSettings(t.Context(), conn, cfg, Settings{Lease: time.Second}); err != nil {
		t.Error(err)
	}
}

func TestOthersMayNotMakePartitions(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	role := roleNames(t, s, "stranger")[0]
	n, dsn, conn := prepared(t, Config{})
	login(t, conn, role, "")
	mustExec(t, conn, "GRANT USAGE ON SCHEMA sojourn TO "+quoted(role))
	stranger := connectAs(t, dsn, role)
	if _, err := stranger.Exec(t.Context(), "SELECT "+n.MakePartition+"(1)"); code(err) != "42501" {
		t.Errorf("make_partition: got %v, want 42501", err)
	}
	if err := Validate(t.Context(), stranger, Config{}); !errors.Is(err, ErrPermission) || code(err) != "42501" {
		t.Errorf("Validate: got %v, want ErrPermission and the server's error", err)
	}
	if err := Up(t.Context(), as(t, dsn, role), Config{}); !errors.Is(err, ErrPermission) {
		t.Errorf("Up: got %v, want ErrPermission", err)
	}
}

func TestMissingRights(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	r := roleNames(t, s, "nobody ", "creator ", "owner ", "taken ")
	dsn := s.Database(t)
	admin := dbtest.Conn(t, dsn)
	login(t, admin, r[0], "")
	login(t, admin, r[1], "")
	mustExec(t, admin, "GRANT CREATE ON DATABASE "+quoted(parse(t, dsn).Database)+" TO "+quoted(r[1]))
	mustExec(t, admin, "CREATE SCHEMA given")
	mustExec(t, admin, "GRANT USAGE ON SCHEMA given TO "+quoted(r[0]))
	mustExec(t, admin, "REVOKE CREATE ON SCHEMA public FROM PUBLIC") // the default since version 15
	mustExec(t, admin, "CREATE ROLE "+quoted(r[3]))

	for _, c := range []struct {
		role string
		cfg  Config
		want []error
		says []string
	}{
		{r[0], Config{Schema: "new one"}, []error{ErrSchemaMissing, ErrPermission}, []string{`schema "new one"`, r[0]}},
		{r[0], Config{Schema: "given"}, []error{ErrPermission}, []string{`schema "given"`, r[0], "may not create tables"}},
		{r[0], Config{Schema: "public"}, []error{ErrPermission}, []string{`schema "public"`, r[0]}},
		{r[1], Config{Schema: "a", Roles: Roles{Owner: r[2]}}, []error{ErrPermission}, []string{"make the roles"}},
		{r[1], Config{Schema: "b", Roles: Roles{Owner: r[3]}}, []error{ErrPermission}, []string{"make the roles"}},
	} {
		err := Up(t.Context(), as(t, dsn, c.role), c.cfg)
		for _, want := range c.want {
			if !errors.Is(err, want) {
				t.Errorf("%+v: got %v, want %v", c.cfg, err, want)
			}
		}
		for _, says := range c.says {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%+v: %v does not say %q", c.cfg, err, says)
			}
		}
	}
	if got := queryOne[int](t, admin, "SELECT count(*)::int FROM pg_class WHERE relnamespace IN ('given'::regnamespace, 'public'::regnamespace)"); got != 0 {
		t.Errorf("%d tables were left", got)
	}
	// A schema of one's own in a database that may have no more.
	mustExec(t, admin, "CREATE SCHEMA own AUTHORIZATION "+quoted(r[0]))
	if err := Up(t.Context(), as(t, dsn, r[0]), Config{Schema: "own"}); err != nil {
		t.Error(err)
	}
}

func TestRolesAreAddedLater(t *testing.T) {
	t.Parallel()
	s := dbtest.Postgres(t)
	r := roleNames(t, s, "owner", "maintainer", "app", "user")
	n, dsn, admin := prepared(t, Config{})
	insertLive(t, admin, n.Sessions, 4, time.Hour)
	cfg := Config{Roles: Roles{Owner: r[0], Maintainer: r[1], App: r[2]}}
	mustUp(t, dsn, cfg)
	login(t, admin, r[3], "", r[2])
	appRole(t, connectAs(t, dsn, r[3]), admin, n, cfg)

	// Each right that is lost is given back.
	for _, sql := range []string{
		"REVOKE DELETE ON " + n.Sessions + " FROM " + r[2],
		"REVOKE SELECT ON " + n.Meta + " FROM " + r[2],
		"REVOKE EXECUTE ON FUNCTION " + n.MakePartition + " FROM " + r[2],
		"REVOKE USAGE ON SCHEMA sojourn FROM " + r[2],
		"REVOKE " + r[0] + " FROM " + r[1],
		"ALTER TABLE " + n.Qualify(partitionsOf(t, admin, n)[0].name) + " OWNER TO postgres",
		"ALTER TABLE " + n.Meta + " OWNER TO postgres",
	} {
		want := catalog(t, admin, n)
		mustExec(t, admin, sql)
		if catalog(t, admin, n) == want {
			t.Fatalf("%s changed nothing", sql)
		}
		mustUp(t, dsn, cfg)
		done, err := runner{conn: admin, cfg: cfg, names: n, script: script{roles: "x"}}.rolesDone(t.Context())
		if err != nil || !done {
			t.Errorf("after %s and Up: %v, %v", sql, done, err)
		}
	}
	user := connectAs(t, dsn, r[3])
	insertLive(t, user, n.Sessions, 3, time.Hour)
	mustExec(t, user, "DELETE FROM "+n.Sessions)
}
