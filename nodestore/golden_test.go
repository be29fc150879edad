package nodestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// goldenFile is what the packages for Node wrote, at the frozen clock.
type goldenFile struct {
	Inputs map[string]struct{ JSON string }
	Stores []goldenStore
}

type goldenStore struct {
	Store, Dialect string
	TimeZone       string   `json:"server_session_timezone"`
	DDL            []string `json:"ddl_statements"`
	Rows           []goldenRow
	Express        *struct {
		SID   string
		Login struct {
			Columns map[string]any
			Expiry  time.Time
		} `json:"row_after_login"`
		Touched struct {
			Columns map[string]any
			Expiry  time.Time
		} `json:"row_after_touch_10min_later"`
	} `json:"through_express"`
}

type goldenRow struct {
	Case, SID, ID string
	Columns       map[string]any
	Expiry        time.Time       `json:"expiry_utc"`
	Get           json.RawMessage `json:"get_returns_at_clock"`
}

func readGolden(t testing.TB) goldenFile {
	t.Helper()
	text, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldenFile
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	if err := decoder.Decode(&g); err != nil {
		t.Fatal(err)
	}
	return g
}

// layout and sid translate the file's words.
func (g goldenStore) layout(t testing.TB) Layout {
	d := map[string]Dialect{"postgres": Postgres, "mysql": MySQL, "sqlite": SQLite}[g.Dialect]
	l, ok := map[string]Layout{
		"connect-pg-simple":             ConnectPGSimple(),
		"connect-postgres-simple":       ConnectPostgresSimple(),
		"connect-session-sequelize":     ConnectSessionSequelize(d),
		"koa-generic-session-sequelize": KoaGenericSessionSequelize(d),
		"express-mysql-session":         ExpressMySQLSession(),
		"@sailscastshq/connect-sqlite":  ConnectSQLite(),
		"connect-session-knex":          ConnectSessionKnex(d),
		"better-sqlite3-session-store":  BetterSQLite3SessionStore(),
	}[g.Store]
	if !ok || l.Dialect != d {
		t.Fatalf("no layout for %s on %s", g.Store, g.Dialect)
	}
	return l
}

func (r goldenRow) sid(l Layout) string {
	if r.SID != "" {
		return r.SID
	}
	return strings.TrimPrefix(r.ID, l.IDPrefix)
}

// onGolden runs a test on each of the file's tables, made as the package makes
// it.
func onGolden(t *testing.T, test func(t *testing.T, g goldenStore, db *sql.DB)) {
	stores := readGolden(t).Stores
	if len(stores) != 14 {
		t.Fatalf("%d stores, want 14", len(stores))
	}
	for _, g := range stores {
		made := func(t *testing.T, db *sql.DB) {
			for _, statement := range g.DDL {
				run(t, db, statement)
			}
			test(t, g, db)
		}
		t.Run(strings.TrimSpace(g.Store+" "+g.Dialect+" "+strings.ReplaceAll(g.TimeZone, "/", " ")), func(t *testing.T) {
			switch g.Dialect {
			case "postgres":
				t.Parallel()
				zone := g.TimeZone
				if zone == "" {
					zone = "UTC"
				}
				made(t, postgresDB(t, zone))
			case "mysql":
				dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) { made(t, mysqlDB(t, s, nil)) })
			case "sqlite":
				t.Parallel()
				made(t, sqliteDB(t))
			}
		})
	}
}

// insertText puts a row into a table the way it stands in the file.
func insertText(t testing.TB, db *sql.DB, l Layout, columns map[string]any) {
	t.Helper()
	d := l.Dialect.dialect()
	var names, marks []string
	var args []any
	for i, name := range slices.Sorted(maps.Keys(columns)) {
		names = append(names, d.quoted(name))
		marks = append(marks, map[bool]string{true: fmt.Sprintf("$%d", i+1), false: "?"}[d.numbered])
		args = append(args, fmt.Sprint(columns[name]))
		if n, ok := columns[name].(json.Number); ok {
			value, err := n.Int64()
			if err != nil {
				t.Fatal(err)
			}
			args[i] = value
		}
	}
	text := "INSERT INTO " + qualified(l) + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(marks, ", ") + ")"
	if d.numbered { // texts for columns of any type
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for i, a := range args {
			text = strings.Replace(text, fmt.Sprintf("$%d", i+1), "'"+strings.ReplaceAll(fmt.Sprint(a), "'", "''")+"'", 1)
		}
		if _, err := conn.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		return
	}
	run(t, db, text, args...)
}

func TestWhatNodeWroteIsReadWithItsExpiry(t *testing.T) {
	t.Parallel()
	onGolden(t, func(t *testing.T, g goldenStore, db *sql.DB) {
		l := g.layout(t)
		s := openOn(t, db, l, quietly, newTestClock(frozen).now)
		read := 0
		for _, row := range g.Rows {
			if row.Columns == nil {
				continue
			}
			insertText(t, db, l, row.Columns)
			got, err := s.Get(t.Context(), row.sid(l))
			if !row.Expiry.After(frozen) { // where the package still serves it, Go does not
				if !errors.Is(err, session.ErrNotFound) {
					t.Errorf("%s: %v, want ErrNotFound", row.Case, err)
				}
				continue
			}
			read++
			want := Entry{ID: row.sid(l), Data: []byte(row.Columns[l.Columns.Data].(string)), Expires: row.Expiry}
			if err != nil || got.ID != want.ID || string(got.Data) != string(want.Data) || !got.Expires.Equal(want.Expires) {
				t.Errorf("%s: got %v %v, want %v", row.Case, got, err, want)
			}
			if string(row.Get) == "null" {
				t.Errorf("%s: the package does not serve it", row.Case)
			}
		}
		if n, err := s.Len(t.Context()); err != nil || n != int64(read) {
			t.Errorf("Len is %d (%v), want %d", n, err, read)
		}
		listed := 0
		for e, err := range s.All(t.Context()) {
			if err != nil || e.ID == "" {
				t.Errorf("listed %v: %v", e, err)
			}
			listed++
		}
		if listed != read || read < 3 {
			t.Errorf("listed %d, want %d", listed, read)
		}
	})
}

func TestWhatGoSetsIsWhatNodeSets(t *testing.T) {
	t.Parallel()
	inputs := readGolden(t).Inputs
	onGolden(t, func(t *testing.T, g goldenStore, db *sql.DB) {
		l := g.layout(t)
		s := openOn(t, db, l, quietly, newTestClock(frozen).now)
		for _, row := range g.Rows {
			data, opts := inputs[row.Case].JSON, []SetOption(nil)
			if row.SID == "" { // koa's have no input but themselves
				data = row.Columns[l.Columns.Data].(string)
			}
			switch row.Case {
			case "ttl-argument":
				opts = append(opts, TTL(3600500*time.Millisecond))
			case "negative-ttl":
				opts = append(opts, TTL(-5*time.Second))
			}
			want := row.Columns
			// The two packages tell a Date from its text, which is what express-session
			// never gives to its store. Go has only the text and takes it for the Date.
			if row.Case == "string-expires" && (l.Package == "connect-session-sequelize" || l.Package == "connect-postgres-simple") {
				i := slices.IndexFunc(g.Rows, func(r goldenRow) bool { return r.Case == "fixed-expires" })
				want = maps.Clone(g.Rows[i].Columns)
				want[l.Columns.ID] = row.SID
				want[l.Columns.Data] = data
				if l.JSONB {
					want[l.Columns.Data] = `{"cookie": {"path": "/", "expires": "2030-01-02T03:04:05.678Z", "httpOnly": true, "originalMaxAge": 86400000}, "loaded": true}`
				}
			}
			if row.Case == "already-expired" || row.Case == "negative-ttl" {
				want = nil // Go destroys, as connect-sqlite does
			}
			key := l.IDPrefix + row.sid(l)
			for range 2 { // a row is made, and then replaced
				if err := s.Set(t.Context(), row.sid(l), []byte(data), opts...); err != nil {
					t.Errorf("%s: %v", row.Case, err)
					continue
				}
				got := asText(t, db, l, key, append(slices.Collect(maps.Keys(want)), l.Columns.ID)...)
				for name, value := range want {
					if got[name] != fmt.Sprint(value) {
						t.Errorf("%s: the column %s is %q, want %q", row.Case, name, got[name], value)
					}
				}
				if want == nil && asText(t, db, l, key, l.Columns.ID) != nil {
					t.Errorf("%s: there is a row", row.Case)
				}
			}
			if want == nil {
				continue
			}
			e, err := s.Get(t.Context(), row.sid(l))
			if err != nil {
				t.Errorf("%s: %v", row.Case, err)
			}
			if l.Package != "koa-generic-session-sequelize" || row.Case != "ttl-argument" {
				if at, err := s.Expiry([]byte(data)); err != nil || !at.Equal(e.Expires) {
					t.Errorf("%s: Expiry is %v (%v), the row's is %v", row.Case, at, err, e.Expires)
				}
			}
		}
	})
}

func TestATouchIsLikeExpressSessions(t *testing.T) {
	t.Parallel()
	onGolden(t, func(t *testing.T, g goldenStore, db *sql.DB) {
		if g.Express == nil {
			t.Skip("koa-generic-session has no touch")
		}
		l, clock := g.layout(t), newTestClock(frozen)
		s := openOn(t, db, l, quietly, clock.now)
		insertText(t, db, l, g.Express.Login.Columns)
		clock.add(10 * time.Minute)
		found, err := s.Touch(t.Context(), g.Express.SID, clock.now().Add(day))
		if err != nil || !found {
			t.Fatalf("touch: %v %v", found, err)
		}
		want := g.Express.Touched.Columns
		for name, got := range asText(t, db, l, l.IDPrefix+g.Express.SID, slices.Collect(maps.Keys(want))...) {
			if got != fmt.Sprint(want[name]) {
				t.Errorf("the column %s is %q, want %q", name, got, want[name])
			}
		}
		if e, err := s.Get(t.Context(), g.Express.SID); err != nil || !e.Expires.Equal(g.Express.Touched.Expiry) {
			t.Errorf("got %v %v, want the expiry %v", e, err, g.Express.Touched.Expiry)
		}
	})
}

func TestCreateTableMakesWhatThePackageMakes(t *testing.T) {
	t.Parallel()
	describeAll := func(t *testing.T, db *sql.DB, l Layout) (all []string) {
		columns, err := describe(t.Context(), db, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range columns {
			all = append(all, fmt.Sprintf("%+v", c))
		}
		indexes := map[Dialect]string{
			Postgres: `SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = $1 ORDER BY 1`,
			MySQL:    `SELECT concat_ws(' ', INDEX_NAME, NON_UNIQUE, SEQ_IN_INDEX, COLUMN_NAME, INDEX_TYPE) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY 1`,
			SQLite:   `SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? ORDER BY 1`,
		}[l.Dialect]
		rows, err := db.QueryContext(context.Background(), indexes, l.Table)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var index string
			if err := rows.Scan(&index); err != nil {
				t.Fatal(err)
			}
			all = append(all, index)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return all
	}
	onGolden(t, func(t *testing.T, g goldenStore, db *sql.DB) {
		l := g.layout(t)
		want := describeAll(t, db, l)
		if l.Package == "koa-generic-session-sequelize" && l.Dialect == MySQL {
			want = append(want[:len(want)-1], want[len(want)-1], "sessions_expires 1 1 expires BTREE") // made by a later statement
		}
		run(t, db, "DROP TABLE "+qualified(l))
		openOn(t, db, l, created(quietly), time.Now)
		openOn(t, db, l, created(quietly), time.Now) // again, which is no error
		if got := describeAll(t, db, l); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
