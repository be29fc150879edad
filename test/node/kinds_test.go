package node

import (
	"testing"

	"github.com/sojourn-go/sojourn/nodestore"
)

// kind is a package with a database that it works on.
type kind struct {
	name     string // what is special
	pkg      string
	database func(testing.TB) database
	settings settings
	layout   nodestore.Layout
	extra    map[string]func([]byte) (any, error) // one column at most
	does     behaviour
	tables   bool // special is only its table
}

// settings are options in Node.
type settings struct {
	Store      map[string]any `json:"store,omitempty"`
	Sequelize  map[string]any `json:"sequelize,omitempty"`
	Middleware map[string]any `json:"middleware,omitempty"`
	UserColumn string         `json:"userColumn,omitempty"`
}

// behaviour is where the packages differ.
type behaviour struct {
	koa           bool // a store for one of Koa's middlewares: there is no touch
	flat          bool // that is koa-session
	servesExpired bool // get does not look at the expiry
	countsExpired bool // nor does length
	endsExpired   bool // a set with a past expiry ends the session
	deadStays     bool // no touch revives a session that has expired
	leftover      bool // the expiry is what is left of the lifetime, from the moment of writing
	listsBare     bool // all gives sessions without their IDs
	listsRows     bool // all gives the rows, the expired ones too
	losesAll      bool // all gives nothing
	checks        bool // the column holds JSON only: no lone surrogate
	reprints      bool // and values of it, not texts
}

// config is what the scripts are told of it.
func (k kind) config(db database) map[string]any {
	return map[string]any{"package": k.pkg, "database": db, "settings": k.settings}
}

func (k kind) String() string { return k.pkg + " " + k.name }

// with returns the kind with other settings, as is told in both languages.
func (k kind) with(name string, s settings, change func(*kind)) kind {
	k.name, k.settings = name, s
	change(&k)
	return k
}

// connect-postgres-simple is not among them: npm does not have it. Rows of its
// are in the tests of package nodestore, and connect-pg-simple shares its
// table.
var kinds = func() []kind {
	pg := kind{name: "on postgres", pkg: "connect-pg-simple", database: postgres, layout: nodestore.ConnectPGSimple()}
	maria := kind{name: "on mariadb", pkg: "express-mysql-session", database: mariadb, layout: nodestore.ExpressMySQLSession()}
	lite := kind{
		name: "on sqlite", pkg: "@sailscastshq/connect-sqlite", database: sqlite, layout: nodestore.ConnectSQLite(),
		does: behaviour{endsExpired: true, deadStays: true, leftover: true},
	}
	better := kind{
		name: "on sqlite", pkg: "better-sqlite3-session-store", database: sqlite, layout: nodestore.BetterSQLite3SessionStore(),
		does: behaviour{countsExpired: true, deadStays: true, leftover: true, listsRows: true},
	}
	knex := func(d nodestore.Dialect) kind {
		return kind{
			pkg: "connect-session-knex", layout: nodestore.ConnectSessionKnex(d),
			does: behaviour{countsExpired: true, deadStays: true, leftover: true, listsBare: true},
		}
	}
	sequelize := func(d nodestore.Dialect) kind {
		return kind{
			pkg: "connect-session-sequelize-8", layout: nodestore.ConnectSessionSequelize(d),
			does: behaviour{servesExpired: true, countsExpired: true},
		}
	}
	koa := func(d nodestore.Dialect) kind {
		return kind{
			pkg: "koa-generic-session-sequelize", layout: nodestore.KoaGenericSessionSequelize(d),
			does: behaviour{koa: true},
		}
	}
	koaSession := func(d nodestore.Dialect) kind {
		return kind{
			pkg: "koa-session-knex-store", layout: nodestore.KoaSessionKnexStore(d),
			does: behaviour{koa: true, flat: true, leftover: true},
		}
	}
	all := []kind{
		pg,
		pg.with("in New York", settings{}, func(k *kind) { k.database = postgresInNewYork }),
		pg.with("in a schema", settings{
			Store: map[string]any{"schemaName": "app", "tableName": "Web \"Sessions\""},
		}, func(k *kind) {
			k.database = prepared(postgres, "CREATE SCHEMA app")
			k.layout.Schema, k.layout.Table = "app", `Web "Sessions"`
			k.tables = true
		}),
		pg.with("with jsonb and time zone", settings{}, func(k *kind) {
			k.database = prepared(postgresInNewYork, `CREATE TABLE session (sid varchar PRIMARY KEY, sess jsonb NOT NULL, expire timestamptz NOT NULL)`)
			k.does.checks, k.does.reprints = true, true
		}),
		maria,
		maria.with("on mysql", settings{}, func(k *kind) { k.database = mysql9 }),
		maria.with("with other names", settings{
			Store: map[string]any{"schema": map[string]any{
				"tableName":   "web_sessions",
				"columnNames": map[string]any{"session_id": "sid", "expires": "ends", "data": "doc"},
			}},
		}, func(k *kind) {
			k.layout.Table = "web_sessions"
			k.layout.Columns = nodestore.Columns{ID: "sid", Expires: "ends", Data: "doc"}
			k.does.losesAll = true // it looks for the default name
			k.tables = true
		}),
		maria.with("with JSON on mysql", settings{}, func(k *kind) {
			k.database = prepared(mysql9, `CREATE TABLE sessions (session_id varchar(128) COLLATE utf8mb4_bin PRIMARY KEY, expires int unsigned NOT NULL, data JSON)`)
			k.does.checks, k.does.reprints = true, true
		}),
		lite,
		lite.with("with other names", settings{
			Store: map[string]any{"table": "web_sessions", "prefix": "web:"},
		}, func(k *kind) {
			k.layout.Table, k.layout.IDPrefix = "web_sessions", "web:"
			k.tables = true
		}),
		better,
		knex(nodestore.Postgres).with("with other names in New York", settings{
			Store: map[string]any{"tableName": "web_sessions", "sidFieldName": "session_id"},
		}, func(k *kind) {
			k.database = postgresInNewYork
			k.layout.Table, k.layout.Columns.ID = "web_sessions", "session_id"
		}),
		knex(nodestore.MySQL).with("on mariadb", settings{}, func(k *kind) { k.database, k.tables, k.does.checks = mariadb, true, true }),
		knex(nodestore.MySQL).with("on mysql", settings{}, func(k *kind) {
			k.database, k.tables = mysql9, true
			k.does.checks, k.does.reprints = true, true // its JSON is no text, as MariaDB's is
		}),
		knex(nodestore.SQLite).with("on sqlite", settings{}, func(k *kind) { k.database, k.tables = sqlite, true }),
		koaSession(nodestore.Postgres).with("in New York", settings{}, func(k *kind) { k.database = postgresInNewYork }),
		koaSession(nodestore.SQLite).with("on sqlite with other names", settings{
			Store: map[string]any{"tablename": "web_sessions", "sidfieldname": "id"},
		}, func(k *kind) {
			k.database, k.tables = sqlite, true
			k.layout.Table, k.layout.Columns.ID = "web_sessions", "id"
		}),
		koa(nodestore.Postgres).with("with times and other names", settings{
			Store:      map[string]any{"tableName": "web_sessions", "timestamps": true},
			Middleware: map[string]any{"prefix": "web:"},
		}, func(k *kind) {
			k.database = postgres
			k.layout.Table, k.layout.IDPrefix = "web_sessions", "web:"
			k.layout.Columns.CreatedAt, k.layout.Columns.UpdatedAt = "createdAt", "updatedAt"
		}),
		sequelize(nodestore.MySQL).with("with other names on mysql", settings{
			Store:     map[string]any{"tableName": "web_sessions"},
			Sequelize: map[string]any{"define": map[string]any{"underscored": true}},
		}, func(k *kind) {
			k.database = mysql9
			k.layout.Table = "web_sessions"
			k.layout.Columns.CreatedAt, k.layout.Columns.UpdatedAt = "created_at", "updated_at"
			k.tables = true
		}),
		sequelize(nodestore.Postgres).with("with a column of users", settings{
			UserColumn: "userName",
			Store:      map[string]any{"tableName": "web_sessions"},
		}, func(k *kind) {
			k.database = postgres
			k.layout.Table = "web_sessions"
			k.extra = map[string]func([]byte) (any, error){"userName": nodestore.Field("user")}
		}),
	}
	for _, on := range []struct {
		name     string
		dialect  nodestore.Dialect
		database func(testing.TB) database
	}{
		{"on postgres in New York", nodestore.Postgres, postgresInNewYork},
		{"on mariadb", nodestore.MySQL, mariadb},
		{"on sqlite", nodestore.SQLite, sqlite},
	} {
		here := func(k *kind) { k.database = on.database }
		eight := sequelize(on.dialect).with(on.name, settings{}, here)
		seven := eight
		seven.pkg = "connect-session-sequelize-7"
		all = append(all, seven, eight, koa(on.dialect).with(on.name, settings{}, here))
	}
	return all
}()
