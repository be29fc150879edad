package invalidation

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap/zapcore"

	"github.com/sojourn-go/sojourn/internal/direct"
)

const (
	serverSQL = `SELECT pg_catalog.pg_postmaster_start_time(), pg_catalog.current_database()`

	// The timeline is in the name of the WAL file that is written to. The last
	// checkpoint's timeline would be an old one after a promotion.
	historySQL = `
SELECT s.system_identifier::text,
       pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)
  FROM pg_catalog.pg_control_system() AS s`
)

// identity tells servers apart, and what became of one.
type identity struct {
	started          time.Time
	database         string
	system, timeline string // empty where the role may not ask
}

func identify(ctx context.Context, conn *direct.Conn) (identity, error) {
	var id identity
	err := conn.QueryRow(ctx, serverSQL, pgx.QueryExecModeExec).Scan(&id.started, &id.database)
	if err != nil {
		return identity{}, err
	}
	id.started = id.started.UTC()
	err = conn.QueryRow(ctx, historySQL, pgx.QueryExecModeExec).Scan(&id.system, &id.timeline)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && (pgErr.Code == "42501" || pgErr.Code == "42883") { // not allowed, not there
		return id, nil
	}
	return id, err
}

// another reports whether now is not the server that id was, a restart aside.
func (id identity) another(now identity) bool {
	return id.system != "" && now.system != "" && (id.system != now.system || id.timeline != now.timeline)
}

// MarshalLogObject implements [zapcore.ObjectMarshaler].
func (id identity) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddTime("started", id.started)
	enc.AddString("database", id.database)
	enc.AddString("system", id.system)
	enc.AddString("timeline", id.timeline)
	return nil
}
