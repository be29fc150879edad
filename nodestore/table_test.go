package nodestore

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

func TestNamesMayBeAnything(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		const evil = "; DROP TABLE x; -- \"'`?$1{:id}{id}%s\\ é"
		l.Table = "t" + evil
		l.Columns = Columns{ID: "i" + evil, Data: "d" + evil, Expires: "e" + evil, CreatedAt: "c" + evil, UpdatedAt: "u" + evil}
		if l.Dialect == MySQL {
			l.DottedTable = false
		}
		clock := newTestClock(frozen)
		s := openOn(t, db, l, created(quietly), clock.now)
		e := mustCreate(t, s, "a", doc(frozen, ""))
		clock.add(10 * time.Second)
		if found, err := s.Touch(t.Context(), "a", frozen.Add(day)); err != nil || !found {
			t.Errorf("touch: %v %v", found, err)
		}
		if _, err := s.Save(t.Context(), e, doc(frozen, `,"n":1`), time.Time{}); err != nil {
			t.Error(err)
		}
		if err := s.Set(t.Context(), "a", doc(frozen, `,"n":2`)); err != nil {
			t.Error(err)
		}
		row := asText(t, db, l, l.IDPrefix+"a", l.Columns.CreatedAt, l.Columns.UpdatedAt)
		if !strings.Contains(row[l.Columns.CreatedAt], ":00") || !strings.Contains(row[l.Columns.UpdatedAt], ":10") {
			t.Errorf("created %s, updated %s", row[l.Columns.CreatedAt], row[l.Columns.UpdatedAt])
		}
		if n, err := s.Clear(t.Context()); err != nil || n != 1 {
			t.Errorf("cleared %d (%v)", n, err)
		}
		if n, err := s.Prune(t.Context()); err != nil || n != 0 {
			t.Errorf("pruned %d (%v)", n, err)
		}
	})
}

func TestATableThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, db *sql.DB, l Layout, opts Options, column string) {
		t.Helper()
		_, err := newStore(t.Context(), db, l, opts, time.Now)
		if !errors.Is(err, ErrUnsuitable) || !strings.Contains(err.Error(), column) {
			t.Errorf("%v, want ErrUnsuitable about %s", err, column)
		}
	}
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		refused(t, db, l, quietly, l.Table) // there is none
		openOn(t, db, l, created(quietly), time.Now)
		for _, change := range []func(*Layout){
			func(l *Layout) { l.Columns.ID = "other" },
			func(l *Layout) { l.Columns.Data = "other" },
			func(l *Layout) { l.Columns.Expires = "other" },
			func(l *Layout) { l.Columns.UpdatedAt = "other" },
		} {
			changed := l
			change(&changed)
			refused(t, db, changed, quietly, `"other"`)
		}
		swapped := l
		swapped.Columns.ID, swapped.Columns.Expires = l.Columns.Expires, l.Columns.ID
		refused(t, db, swapped, quietly, l.Columns.Expires)
		if l.Columns.CreatedAt != "" {
			less := l
			less.Columns.CreatedAt = ""
			refused(t, db, less, quietly, "createdAt")
		}
		extra := quietly
		extra.Extra = map[string]func([]byte) (any, error){"userId": Field("user")}
		refused(t, db, l, extra, `"userId"`)

		// The expiry as something that another package would keep.
		other := l
		if other.Expires = ExpiryDate; l.Expires.isDate() {
			other.Expires = ExpirySeconds
		}
		refused(t, db, other, quietly, l.Columns.Expires)
	})
	for _, tt := range []struct{ ddl, column string }{
		{`CREATE TABLE session (sid varchar, sess json, expire timestamp)`, "sid"},
		{`CREATE TABLE session (sid varchar, sess json, expire timestamp, PRIMARY KEY (sid, expire))`, "sid"},
		{`CREATE TABLE session (sid integer PRIMARY KEY, sess json, expire timestamp)`, "sid"},
		{`CREATE TABLE session (sid varchar PRIMARY KEY, sess bytea, expire timestamp)`, "sess"},
		{`CREATE TABLE session (sid varchar PRIMARY KEY, sess json, expire bigint)`, "expire"},
		{`CREATE TABLE session (sid varchar PRIMARY KEY, sess json, expire timestamp, more text NOT NULL)`, "more"},
		{`CREATE TABLE session (sid varchar UNIQUE DEFERRABLE, sess json, expire timestamp)`, "sid"},
	} {
		t.Run(tt.ddl, func(t *testing.T) {
			t.Parallel()
			db := postgresDB(t, "UTC")
			run(t, db, tt.ddl)
			refused(t, db, ConnectPGSimple(), quietly, `"`+tt.column+`"`)
		})
	}
	t.Run("mysql", func(t *testing.T) {
		dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
			db := mysqlDB(t, s, nil)
			for _, tt := range []struct{ ddl, column string }{
				{"CREATE TABLE Sessions (sid varchar(36) NOT NULL, expires datetime, data text, KEY (sid))", "sid"},
				{"CREATE TABLE Sessions (sid varchar(36) UNIQUE, expires datetime, data text)", "sid"},
				{"CREATE TABLE Sessions (sid varchar(36) NOT NULL, expires datetime, data text, UNIQUE (sid(10)))", "sid"},
				{"CREATE TABLE Sessions (sid varchar(36) PRIMARY KEY, expires timestamp NULL, data text)", "expires"},
				{"CREATE TABLE Sessions (sid varchar(36) PRIMARY KEY, expires datetime, data blob)", "data"},
			} {
				run(t, db, tt.ddl)
				refused(t, db, without(ConnectSessionSequelize(MySQL)), quietly, `"`+tt.column+`"`)
				run(t, db, "DROP TABLE Sessions")
			}
			lax := mysqlDB(t, s, func(c *mysql.Config) { c.Params = map[string]string{"sql_mode": "''"} })
			refused(t, lax, ExpressMySQLSession(), created(quietly), "add sql_mode=%27STRICT_ALL_TABLES%27 to the DSN")
			tuned := mysqlDB(t, s, func(c *mysql.Config) { c.Params = map[string]string{"sql_mode": "'STRICT_ALL_TABLES'"} })
			openOn(t, tuned, ExpressMySQLSession(), created(quietly), time.Now)
		})
	})
}

// In a mode of MariaDB the empty text is NULL, and so is each comparison with it.
func TestTheEmptyTextIsNoStart(t *testing.T) {
	t.Parallel()
	db := mysqlDB(t, dbtest.MariaDB(t), func(c *mysql.Config) {
		c.Params = map[string]string{"sql_mode": "'STRICT_ALL_TABLES,EMPTY_STRING_IS_NULL'"}
	})
	for _, l := range []Layout{ConnectSessionSequelize(MySQL), KoaGenericSessionSequelize(MySQL), ExpressMySQLSession()} {
		if l.Package == "koa-generic-session-sequelize" {
			l.Table = "koa"
		}
		clock := newTestClock(frozen)
		opts := created(quietly)
		opts.PruneBatch = 2
		s := openOn(t, db, l, opts, clock.now)
		for i := range 5 {
			mustCreate(t, s, fmt.Sprint(i), doc(frozen, ""))
		}
		n, err := s.Len(t.Context())
		if listed := 0; n != 5 || err != nil {
			t.Errorf("%s: Len is %d (%v)", l, n, err)
		} else {
			for _, err := range s.All(t.Context()) {
				if listed++; err != nil {
					t.Error(err)
				}
			}
			for _, err := range s.IDs(t.Context()) {
				if listed++; err != nil {
					t.Error(err)
				}
			}
			if listed != 10 {
				t.Errorf("%s: listed %d, want 5 twice", l, listed)
			}
		}
		clock.add(day)
		if n, err := s.Prune(t.Context()); n != 5 || err != nil {
			t.Errorf("%s: pruned %d (%v)", l, n, err)
		}
		mustCreate(t, s, "a", doc(clock.now(), ""))
		if n, err := s.Clear(t.Context()); n != 1 || err != nil {
			t.Errorf("%s: cleared %d (%v)", l, n, err)
		}
	}
}

// without has no timestamps.
func without(l Layout) Layout {
	l.Columns.CreatedAt, l.Columns.UpdatedAt = "", ""
	return l
}

// tryAll saves, reads and lists a session.
func tryAll(t *testing.T, s *Store, more string) Entry {
	t.Helper()
	now := time.Now()
	e := mustCreate(t, s, "a", doc(now, more))
	for i := range 3 {
		var err error
		if e, err = s.Save(t.Context(), e, doc(now, fmt.Sprintf(`,"i":%d%s`, i, more)), time.Time{}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Get(t.Context(), "a")
		if err != nil || string(got.Data) != string(e.Data) || !got.Expires.Equal(e.Expires) {
			t.Fatalf("got %s %v %v, saved %s %v", got.Data, got.Expires, err, e.Data, e.Expires)
		}
	}
	if err := s.Set(t.Context(), "a", e.Data); err != nil {
		t.Error(err)
	}
	if got, err := s.Get(t.Context(), "a"); err != nil || string(got.Data) != string(e.Data) {
		t.Errorf("got %v %v, set %v", got, err, e)
	}
	if n, err := s.Len(t.Context()); err != nil || n != 1 {
		t.Errorf("%d sessions (%v)", n, err)
	}
	return e
}

func TestOtherTypesOfPostgres(t *testing.T) {
	t.Parallel()
	for _, l := range []Layout{ConnectPGSimple(), ConnectPostgresSimple()} {
		for _, ddl := range []string{
			`CREATE TABLE session (sid varchar PRIMARY KEY, sess jsonb NOT NULL, expire timestamptz NOT NULL)`,
			`CREATE TABLE session (sid text PRIMARY KEY, sess text NOT NULL, expire timestamptz(0) NOT NULL)`,
			`CREATE TABLE session (sid varchar PRIMARY KEY, sess json NOT NULL, expire timestamp(6) NOT NULL,
			 seen timestamptz NOT NULL DEFAULT now(), who text GENERATED ALWAYS AS (sess #>> '{passport,user}') STORED, n bigint GENERATED ALWAYS AS IDENTITY)`,
			`CREATE TABLE session (sid varchar PRIMARY KEY, sess json NOT NULL, expire timestamp(6) NOT NULL) PARTITION BY HASH (sid);
			 CREATE TABLE s0 PARTITION OF session FOR VALUES WITH (MODULUS 2, REMAINDER 0);
			 CREATE TABLE s1 PARTITION OF session FOR VALUES WITH (MODULUS 2, REMAINDER 1)`,
		} {
			t.Run(l.Package+" "+ddl, func(t *testing.T) {
				t.Parallel()
				db := postgresDB(t, "America/New_York")
				for statement := range strings.SplitSeq(ddl, ";") {
					run(t, db, statement)
				}
				tryAll(t, openOn(t, db, l, quietly, time.Now), `,"n":1e3,"b":1.50,"text":"Zoë 🚀"`)
			})
		}
	}
}

func TestATableInAnotherSchema(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		db := ownPostgresDB(t, "Asia/Tokyo")
		run(t, db, `CREATE SCHEMA "My ""web"""`)
		l := ConnectPGSimple()
		l.Schema = `My "web"`
		tryAll(t, openOn(t, db, l, created(quietly), time.Now), "")
		openOn(t, db, ConnectPGSimple(), created(quietly), time.Now) // a second table, in public
		l.Table = "session2"
		openOn(t, db, l, created(quietly), time.Now) // and a third, in one schema
	})
	t.Run("mysql", func(t *testing.T) {
		dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
			cfg, err := mysql.ParseDSN(s.Database(t))
			if err != nil {
				t.Fatal(err)
			}
			l := ExpressMySQLSession()
			l.Table = cfg.DBName + ".web sessions"
			db := mysqlDB(t, s, nil)
			tryAll(t, openOn(t, db, l, created(quietly), time.Now), "")
			var n int
			if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM `"+cfg.DBName+"`.`web sessions`").Scan(&n); err != nil || n != 1 {
				t.Errorf("%d rows (%v)", n, err)
			}
		})
	})
}

func TestAJSONColumnOfMySQL(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := mysqlDB(t, s, nil)
		run(t, db, "CREATE TABLE sessions (session_id varchar(128) COLLATE utf8mb4_bin PRIMARY KEY, expires int unsigned NOT NULL, data json)")
		tryAll(t, openOn(t, db, ExpressMySQLSession(), quietly, time.Now), `,"n":1e3,"b":1.50,"text":"Zoë 🚀"`)
	})
}

func TestAPrefixLeavesRoomForTheID(t *testing.T) {
	t.Parallel()
	db := mysqlDB(t, dbtest.MariaDB(t), nil)
	l := ExpressMySQLSession()
	l.IDPrefix = strings.Repeat("é", 128)
	_, err := New(t.Context(), db, l, created(quietly))
	if !errors.Is(err, ErrUnsuitable) || !strings.Contains(err.Error(), `Layout.IDPrefix has 128 characters, and the column "session_id" takes 128`) {
		t.Errorf("%v, want ErrUnsuitable", err)
	}
}

func TestAnExpiryBeyondTheColumnIsRefused(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := mysqlDB(t, s, nil)
		store := openOn(t, db, ExpressMySQLSession(), created(quietly), time.Now)
		last := time.Date(2106, 2, 7, 6, 28, 15, 0, time.UTC)
		if err := store.Set(t.Context(), "a", doc(time.Now(), ""), ExpiresAt(last)); err != nil {
			t.Error(err)
		}
		wantErr(t, "set", store.Set(t.Context(), "a", doc(time.Now(), ""), ExpiresAt(last.Add(time.Second))), session.ErrDeadline)
		if e, err := store.Get(t.Context(), "a"); err != nil || !e.Expires.Equal(last) {
			t.Errorf("got %v %v", e, err)
		}
		_, err := store.Touch(t.Context(), "a", last.Add(time.Second))
		wantErr(t, "touch", err, session.ErrDeadline)
	})
}

func TestNoSettingOfAConnectionBendsADate(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		for name, mod := range map[string]func(*mysql.Config){
			"loc":             func(c *mysql.Config) { c.Loc = time.FixedZone("here", 5*3600+1800) },
			"parseTime":       func(c *mysql.Config) { c.Loc, c.ParseTime = time.FixedZone("here", -7*3600), true },
			"time_zone":       func(c *mysql.Config) { c.Params = map[string]string{"time_zone": "'+05:30'"} },
			"clientFoundRows": func(c *mysql.Config) { c.ClientFoundRows = true },
			"interpolate":     func(c *mysql.Config) { c.InterpolateParams = true },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				db := mysqlDB(t, s, mod)
				for _, l := range []Layout{ConnectSessionSequelize(MySQL), ExpressMySQLSession()} {
					store := openOn(t, db, l, created(quietly), newTestClock(frozen).now)
					e := mustCreate(t, store, "a", doc(frozen, ""))
					if got, err := store.Get(t.Context(), "a"); err != nil || !got.Expires.Equal(frozen.Add(time.Hour).Truncate(time.Second)) {
						t.Errorf("got %v (%v)", got.Expires, err)
					}
					for range 2 { // the second time nothing changes
						if found, err := store.Touch(t.Context(), "a", frozen.Add(day)); err != nil || !found {
							t.Errorf("touch: %v %v", found, err)
						}
						if err := store.Set(t.Context(), "b", doc(frozen, "")); err != nil {
							t.Error(err)
						}
						var err error
						if e, err = store.Save(t.Context(), e, e.Data, frozen.Add(2*time.Hour)); err != nil {
							t.Error(err)
						}
					}
					if _, err := store.Save(t.Context(), Entry{ID: "a", Data: []byte("{}")}, e.Data, e.Expires); !errors.Is(err, session.ErrConflict) {
						t.Errorf("save of another document: %v", err)
					}
					if l.Expires == ExpiryDate {
						row := asText(t, db, l, "a", "expires", "createdAt")
						if row["expires"] != "2030-01-01 02:00:00" || row["createdAt"] != "2030-01-01 00:00:00" {
							t.Errorf("the row is %v", row)
						}
					}
				}
			})
		}
	})
}

func TestExtraColumnsFollowTheDocument(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		openOn(t, db, l, created(quietly), time.Now)
		run(t, db, "ALTER TABLE "+qualified(l)+" ADD COLUMN who varchar(20)")
		run(t, db, "ALTER TABLE "+qualified(l)+" ADD COLUMN n integer")
		opts := quietly
		bad := errors.New("bad")
		opts.Extra = map[string]func([]byte) (any, error){
			"who": Field("passport", "user"),
			"n": func(data []byte) (any, error) {
				if strings.Contains(string(data), "bad") {
					return nil, bad
				}
				return Field("n")(data)
			},
		}
		s := openOn(t, db, l, opts, time.Now)
		check := func(who, n string) {
			t.Helper()
			if row := asText(t, db, l, l.IDPrefix+"a", "who", "n"); row["who"] != who || row["n"] != n {
				t.Errorf("the columns are %v, want %s and %s", row, who, n)
			}
		}
		now := time.Now()
		e := mustCreate(t, s, "a", doc(now, `,"passport":{"user":"zoë"},"n":5`))
		check("zoë", "5")
		e, err := s.Save(t.Context(), e, doc(now, `,"n":6`), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		check("NULL", "6")
		if err := s.Set(t.Context(), "a", doc(now, `,"passport":{"user":"bob"}`)); err != nil {
			t.Error(err)
		}
		check("bob", "NULL")
		if _, err := s.Touch(t.Context(), "a", now.Add(day)); err != nil {
			t.Error(err)
		}
		check("bob", "NULL")
		if err := s.Set(t.Context(), "a", doc(now, `,"bad":1`)); !errors.Is(err, bad) || !errors.Is(err, session.ErrInvalid) {
			t.Errorf("a function that fails: %v", err)
		}
		// The document is secret: so is what a column does not take of it.
		if l.Dialect != SQLite {
			err = s.Set(t.Context(), "a", doc(now, `,"n":"secret"`))
			if !errors.Is(err, session.ErrInvalid) || strings.Contains(err.Error(), "secret") {
				t.Errorf("a text for a number: %v", err)
			}
			err = s.Set(t.Context(), "a", doc(now, `,"passport":{"user":"`+strings.Repeat("secret", 5)+`"}`))
			if !errors.Is(err, session.ErrTooLarge) || strings.Contains(err.Error(), "secret") {
				t.Errorf("a long text: %v", err)
			}
		}
		check("bob", "NULL")
		_ = e
	})
}

func TestATimeZoneOfTheConnectionsOwnIsLogged(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{true, false} {
		db := ownPostgresDB(t, "Asia/Tokyo")
		if own {
			db.SetMaxOpenConns(1)
			run(t, db, "SET timezone = 'UTC'")
		}
		core, logged := observer.New(zap.WarnLevel)
		opts := created(quietly)
		opts.Logger = zap.New(core)
		openOn(t, db, ConnectPGSimple(), opts, time.Now)
		if got := logged.Len() == 1; got != own {
			t.Errorf("its own TimeZone: %v; logged %v", own, logged.All())
		}
	}
}

func TestOptionsAndLayoutsAreChecked(t *testing.T) {
	t.Parallel()
	db := sqliteDB(t)
	field := Field("a")
	for want, opts := range map[string]Options{
		"Options.DefaultTTL":                                   {DefaultTTL: -1},
		"Options.TouchEvery":                                   {TouchEvery: -1},
		"Options.MaxData":                                      {MaxData: -1},
		"Options.PruneBatch":                                   {PruneBatch: 1001},
		"Options.PruneInterval":                                {PruneInterval: 1<<63 - 1},
		`Options.Extra has a column ""`:                        {Extra: map[string]func([]byte) (any, error){"": field}},
		`Options.Extra has "sid", which`:                       {Extra: map[string]func([]byte) (any, error){"sid": field}},
		`Options.Extra has no function for "a"`:                {Extra: map[string]func([]byte) (any, error){"a": nil}},
		"Options.Extra has a column \"\\x00\": its name has a": {Extra: map[string]func([]byte) (any, error){"\x00": field}},
	} {
		if _, err := New(t.Context(), db, ConnectSQLite(), opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	unmade := ConnectSQLite()
	unmade.DDL = nil
	if _, err := New(t.Context(), db, unmade, Options{CreateTable: true}); err == nil || !strings.Contains(err.Error(), "Options.CreateTable") {
		t.Errorf("%v, want Options.CreateTable", err)
	}
	for want, change := range map[string]func(*Layout){
		"Layout.Dialect is Dialect(9)":    func(l *Layout) { l.Dialect = 9 },
		"Layout.Table is empty":           func(l *Layout) { l.Table = "" },
		"Layout.Schema is for":            func(l *Layout) { l.Schema = "main" },
		"Layout.Columns.ID is empty":      func(l *Layout) { l.Columns.ID = "" },
		"Layout.Columns.Data has a NUL":   func(l *Layout) { l.Columns.Data = "a\x00" },
		"Layout.Columns.Expires is not":   func(l *Layout) { l.Columns.Expires = "\xff" },
		`Layout.Columns.UpdatedAt is "c"`: func(l *Layout) { l.Columns.CreatedAt, l.Columns.UpdatedAt = "c", "c" },
		"Layout.IDPrefix":                 func(l *Layout) { l.IDPrefix = "\x00" },
		"Layout.Expires is 0":             func(l *Layout) { l.Expires = 0 },
		"Layout.DefaultTTL is 0s":         func(l *Layout) { l.DefaultTTL = 0 },
		"Layout.Write.To is 1.5ms":        func(l *Layout) { l.Write.To = 1500 * time.Microsecond },
		"Layout.Clock.Mode is 3":          func(l *Layout) { l.Clock.Mode = RoundLeftUp },
		"Layout.TTL has 7":                func(l *Layout) { l.TTL = []TTLSource{CookieExpires, 7} },
		"Layout.JSONB":                    func(l *Layout) { l.JSONB = true },
		"Layout.Dialect is MySQL":         func(l *Layout) { *l = KoaSessionKnexStore(MySQL) },
		"Layout.Expires is ExpiryISO":     func(l *Layout) { l.Dialect, l.Expires = MySQL, ExpiryISO },
		"Layout.Table has 64 bytes":       func(l *Layout) { l.Dialect, l.Table = Postgres, strings.Repeat("t", 64) },
		"Layout.Table has 65 characters":  func(l *Layout) { l.Dialect, l.Table = MySQL, strings.Repeat("é", 65) },
	} {
		l := ConnectSQLite()
		change(&l)
		if _, err := New(t.Context(), db, l, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Behind a pooler nothing may be prepared.
func TestEveryProtocolOfPgx(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			dsn, schema := dbtest.Postgres(t).Schema(t)
			pool := dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
				c.ConnConfig.RuntimeParams["search_path"] = schema
				c.ConnConfig.RuntimeParams["timezone"] = "Asia/Kathmandu"
				c.ConnConfig.DefaultQueryExecMode = mode
			})
			db := stdlib.OpenDBFromPool(pool)
			t.Cleanup(func() { _ = db.Close() })
			for i, l := range []Layout{ConnectPGSimple(), ConnectPostgresSimple(), ConnectSessionSequelize(Postgres), KoaGenericSessionSequelize(Postgres)} {
				l.Table = fmt.Sprint("sessions", i)
				s := openOn(t, db, l, created(quietly), time.Now)
				tryAll(t, s, `,"text":"Zoë \\ ' 🚀"`)
				if found, err := s.Touch(t.Context(), "a", time.Now().Add(day)); err != nil || !found {
					t.Errorf("touch: %v %v", found, err)
				}
				if n, err := s.Clear(t.Context()); err != nil || n != 1 {
					t.Errorf("cleared %d (%v)", n, err)
				}
				if n, err := s.Prune(t.Context()); err != nil || n != 0 {
					t.Errorf("pruned %d (%v)", n, err)
				}
			}
		})
	}
}
