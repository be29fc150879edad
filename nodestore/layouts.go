package nodestore

import "time"

const day = 24 * time.Hour

// ConnectPGSimple is the layout of connect-pg-simple 10, in Postgres.
func ConnectPGSimple() Layout {
	return Layout{
		Package:      "connect-pg-simple",
		Dialect:      Postgres,
		Table:        "session",
		Columns:      Columns{ID: "sid", Data: "sess", Expires: "expire"},
		Expires:      ExpiryDate,
		Write:        Rounding{time.Second, RoundUp},
		Clock:        Rounding{time.Second, RoundUp},
		LiveAtExpiry: true,
		DefaultTTL:   day,
		TTL:          []TTLSource{CookieExpires},

		DestroysBroken: true,
		DDL: []string{
			`CREATE TABLE IF NOT EXISTS {table} (
				{id} varchar NOT NULL COLLATE "default",
				{data} json NOT NULL,
				{expires} timestamp(6) NOT NULL{timestamps},
				CONSTRAINT {name:{}_pkey} PRIMARY KEY ({id}))`,
			`CREATE INDEX IF NOT EXISTS {name:IDX_{}_expire} ON {table} ({expires})`,
		},
	}
}

// ConnectPostgresSimple is the layout of connect-postgres-simple 0.2, which
// shares its table with connect-pg-simple but sends documents as jsonb.
func ConnectPostgresSimple() Layout {
	l := ConnectPGSimple()
	l.Package = "connect-postgres-simple"
	l.JSONB, l.DestroysBroken = true, false
	return l
}

// ConnectSessionSequelize is the layout of connect-session-sequelize 7 and 8,
// in a database of any dialect.
func ConnectSessionSequelize(d Dialect) Layout {
	l := Layout{
		Package: "connect-session-sequelize",
		Dialect: d,
		Table:   "Sessions",
		Columns: Columns{
			ID: "sid", Data: "data", Expires: "expires",
			CreatedAt: "createdAt", UpdatedAt: "updatedAt",
		},
		Expires:    ExpiryDate,
		Write:      Rounding{time.Millisecond, RoundDown},
		Clock:      Rounding{time.Millisecond, RoundDown},
		NullLives:  true,
		DefaultTTL: day,
		TTL:        []TTLSource{CookieExpires},
	}
	switch d {
	case Postgres:
		l.DDL = []string{`CREATE TABLE IF NOT EXISTS {table} (
			{id} VARCHAR(36), {expires} TIMESTAMP WITH TIME ZONE, {data} TEXT{timestamps}, PRIMARY KEY ({id}))`}
	case MySQL:
		l.Write.To = time.Second
		l.DDL = []string{`CREATE TABLE IF NOT EXISTS {table} (
			{id} VARCHAR(36), {expires} DATETIME, {data} TEXT{timestamps}, PRIMARY KEY ({id})) ENGINE=InnoDB{collate}`}
	case SQLite:
		l.DDL = []string{`CREATE TABLE IF NOT EXISTS {table} (
			{id} VARCHAR(36) PRIMARY KEY, {expires} DATETIME, {data} TEXT{timestamps})`}
	}
	return l
}

// KoaGenericSessionSequelize is the layout of koa-generic-session-sequelize 2
// behind koa-generic-session with its default prefix, in a database of any
// dialect. With the package's option timestamps, name its columns in
// Columns.CreatedAt and Columns.UpdatedAt.
func KoaGenericSessionSequelize(d Dialect) Layout {
	l := Layout{
		Package:        "koa-generic-session-sequelize",
		Dialect:        d,
		Table:          "Sessions",
		Columns:        Columns{ID: "id", Data: "data", Expires: "expires"},
		IDPrefix:       "koa:sess:",
		Expires:        ExpirySeconds,
		Write:          Rounding{time.Second, RoundDown},
		Clock:          Rounding{time.Second, RoundDown},
		PrunedAtExpiry: true,
		DefaultTTL:     day,
		TTL:            []TTLSource{CookieExpires, CookieMaxAge},
	}
	index := `CREATE INDEX IF NOT EXISTS {lower:{}_expires} ON {table} ({expires})`
	switch d {
	case Postgres:
		l.DDL = []string{`CREATE TABLE IF NOT EXISTS {table} (
			{id} VARCHAR(100), {data} TEXT, {expires} BIGINT{timestamps}, PRIMARY KEY ({id}))`, index}
	case MySQL: // which has no CREATE INDEX IF NOT EXISTS
		l.DDL = []string{`CREATE TABLE IF NOT EXISTS {table} (
			{id} VARCHAR(100), {data} TEXT, {expires} BIGINT{timestamps}, PRIMARY KEY ({id}),
			INDEX {lower:{}_expires} ({expires})) ENGINE=InnoDB{collate}`}
	case SQLite:
		l.DDL = []string{`CREATE TABLE IF NOT EXISTS {table} (
			{id} VARCHAR(100) PRIMARY KEY, {data} TEXT, {expires} BIGINT{timestamps})`, index}
	}
	return l
}

// ExpressMySQLSession is the layout of express-mysql-session 2 and 3, in MySQL
// or MariaDB. As there, a dot in Table separates the database from the table.
func ExpressMySQLSession() Layout {
	return Layout{
		Package:      "express-mysql-session",
		Dialect:      MySQL,
		Table:        "sessions",
		DottedTable:  true,
		Columns:      Columns{ID: "session_id", Data: "data", Expires: "expires"},
		Expires:      ExpirySeconds,
		Write:        Rounding{time.Second, RoundHalfUp},
		Clock:        Rounding{time.Second, RoundHalfUp},
		LiveAtExpiry: true,
		DefaultTTL:   day,
		TTL:          []TTLSource{CookieExpires},
		Collation:    "utf8mb4_bin",
		DDL: []string{`CREATE TABLE IF NOT EXISTS {table} (
			{id} varchar(128){collate} NOT NULL,
			{expires} int(11) unsigned NOT NULL,
			{data} mediumtext{collate}{timestamps},
			PRIMARY KEY ({id})) ENGINE=InnoDB`},
	}
}

// ConnectSQLite is the layout of @sailscastshq/connect-sqlite 1, in SQLite.
func ConnectSQLite() Layout {
	return Layout{
		Package:        "@sailscastshq/connect-sqlite",
		Dialect:        SQLite,
		Table:          "sessions",
		Columns:        Columns{ID: "sid", Data: "sess", Expires: "expired"},
		IDPrefix:       "sess:",
		Expires:        ExpiryMillis,
		Write:          Rounding{time.Second, RoundLeftUp},
		Clock:          Rounding{time.Millisecond, RoundDown},
		PrunedAtExpiry: true,
		DefaultTTL:     day,
		TTL:            []TTLSource{CookieExpires, CookieMaxAge},
		DDL: []string{
			`CREATE TABLE IF NOT EXISTS {table} (
				{id} TEXT PRIMARY KEY, {data} TEXT NOT NULL, {expires} INTEGER NOT NULL{timestamps})`,
			`CREATE INDEX IF NOT EXISTS {name:idx_{}_expired} ON {table} ({expires})`,
		},
	}
}

// ConnectSessionKnex is the layout of connect-session-knex 5, in a database of
// any dialect. sidFieldName is Columns.ID.
func ConnectSessionKnex(d Dialect) Layout {
	l := knex("connect-session-knex", "sessions", d)
	l.TTL = []TTLSource{CookieExpires}
	return l
}

const koaSessionKnex = "koa-session-knex-store"

// KoaSessionKnexStore is the layout of koa-session-knex-store 1 behind
// koa-session, in Postgres or SQLite: see NewKoaSession. sidfieldname is
// Columns.ID. New refuses it in MySQL, where its column is a TIMESTAMP, which no
// Layout describes.
func KoaSessionKnexStore(d Dialect) Layout {
	l := knex(koaSessionKnex, "session", d)
	l.TTL = []TTLSource{MemberExpire}
	return l
}

// knex is a table as both packages make it, of which one began as the other.
func knex(pkg, table string, d Dialect) Layout {
	l := Layout{
		Package:      pkg,
		Dialect:      d,
		Table:        table,
		Columns:      Columns{ID: "sid", Data: "sess", Expires: "expired"},
		Expires:      ExpiryDate,
		Write:        Rounding{time.Millisecond, RoundDown},
		Clock:        Rounding{time.Millisecond, RoundDown},
		LiveAtExpiry: true,
		DefaultTTL:   day,
	}
	const index = `CREATE INDEX IF NOT EXISTS {name:{}_expired_index} ON {table} ({expires})`
	switch d {
	case Postgres:
		l.DDL = []string{`CREATE TABLE IF NOT EXISTS {table} (
			{id} varchar(255), {data} json NOT NULL, {expires} timestamptz NOT NULL{timestamps},
			CONSTRAINT {name:{}_pkey} PRIMARY KEY ({id}))`, index}
	case MySQL: // which has no CREATE INDEX IF NOT EXISTS
		l.Write.To, l.Clock.To = time.Second, time.Second
		l.DDL = []string{`CREATE TABLE IF NOT EXISTS {table} (
			{id} varchar(255) NOT NULL, {data} json NOT NULL, {expires} datetime NOT NULL{timestamps}, PRIMARY KEY ({id}),
			INDEX {name:{}_expired_index} ({expires})) ENGINE=InnoDB`}
	case SQLite:
		l.Expires, l.Clock.To = ExpiryISO, time.Second
		l.DDL = []string{`CREATE TABLE IF NOT EXISTS {table} (
			{id} varchar(255), {data} json NOT NULL, {expires} datetime NOT NULL{timestamps}, PRIMARY KEY ({id}))`, index}
	}
	return l
}

// BetterSQLite3SessionStore is the layout of better-sqlite3-session-store 0.1, in
// SQLite.
func BetterSQLite3SessionStore() Layout {
	return Layout{
		Package:      "better-sqlite3-session-store",
		Dialect:      SQLite,
		Table:        "sessions",
		Columns:      Columns{ID: "sid", Data: "sess", Expires: "expire"},
		Expires:      ExpiryISO,
		Write:        Rounding{time.Millisecond, RoundDown},
		Clock:        Rounding{time.Second, RoundNext},
		LiveAtExpiry: true,
		DefaultTTL:   day,
		TTL:          []TTLSource{CookieExpires},
		DDL: []string{`CREATE TABLE IF NOT EXISTS {table} (
			{id} TEXT NOT NULL PRIMARY KEY, {data} JSON NOT NULL, {expires} TEXT NOT NULL{timestamps})`},
	}
}
