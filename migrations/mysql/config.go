package mysql

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Version is the version of the tables that this package knows.
const Version = 1

// MaxUser is the length in bytes of the longest user that the tables hold.
const MaxUser = 2000

// Config says where the sessions are. The zero Config is ready to use.
type Config struct {
	// Table is the sessions table, unquoted, from 1 to 40 characters without
	// NUL; empty means DefaultTable. It is in the database that the connection
	// has selected.
	Table string
	// Settings are written when Up makes the tables, and only then. A database
	// that has settings keeps them: see SetSettings.
	Settings Settings
	// LockWait is how long Up waits for another process that migrates; 0 means
	// a minute, negative no limit but the context's.
	LockWait time.Duration
}

func (c Config) withDefaults() Config {
	c.Table = cmp.Or(c.Table, DefaultTable)
	c.Settings.LongestLifetime = cmp.Or(c.Settings.LongestLifetime, 30*24*time.Hour)
	c.LockWait = cmp.Or(c.LockWait, time.Minute)
	return c
}

// names checks the whole Config.
func (c Config) names() (names, error) {
	n, err := namesOf(c.Table)
	if err != nil {
		return n, err
	}
	return n, c.Settings.validate()
}

// MaxLifetime is the limit of Settings.LongestLifetime: ten years.
const MaxLifetime = 87600 * time.Hour

// Settings is what all nodes that share the sessions must agree on. The
// database holds it.
type Settings struct {
	// LongestLifetime is how far ahead the deadline of a session may lie:
	// whole hours, from 1 h to MaxLifetime. 0 means 30 days.
	LongestLifetime time.Duration
}

func (s Settings) validate() error {
	switch d := s.LongestLifetime; {
	case d < time.Hour || d > MaxLifetime:
		return fmt.Errorf("%w: Settings.LongestLifetime is %s; it must be from %s to %s", ErrInvalid, d, time.Hour, MaxLifetime)
	case d%time.Hour != 0:
		return fmt.Errorf("%w: Settings.LongestLifetime is %s; it must be a multiple of %s", ErrInvalid, d, time.Hour)
	}
	return nil
}

func (s Settings) hours() int64 { return int64(s.LongestLifetime / time.Hour) }

// Querier is a *sql.DB, *sql.Conn or *sql.Tx.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// LoadSettings returns the settings that the database holds.
func LoadSettings(ctx context.Context, db Querier, cfg Config) (Settings, error) {
	n, err := cfg.withDefaults().names()
	if err != nil {
		return Settings{}, err
	}
	return n.loadSettings(ctx, db)
}

func (n names) loadSettings(ctx context.Context, db Querier) (Settings, error) {
	var hours int64
	err := db.QueryRowContext(ctx, `SELECT longest_hours FROM `+n.meta).Scan(&hours)
	switch {
	case err == sql.ErrNoRows || number(err) == errNoTable:
		return Settings{}, n.errorf(ErrNotMigrated, "load settings: %w", err)
	case err != nil:
		return Settings{}, n.explain("load settings", err)
	}
	return Settings{LongestLifetime: time.Duration(hours) * time.Hour}, nil
}

// SetSettings changes the settings that are not zero in s and returns all that
// hold then. Nodes whose options say something else refuse to start from then
// on. A shorter longest lifetime does not shorten sessions that exist.
func SetSettings(ctx context.Context, db Querier, cfg Config, s Settings) (Settings, error) {
	n, err := cfg.withDefaults().names()
	if err != nil {
		return Settings{}, err
	}
	if s.LongestLifetime != 0 {
		if err := s.validate(); err != nil {
			return Settings{}, err
		}
		if _, err := db.ExecContext(ctx, `UPDATE `+n.meta+` SET longest_hours = ?`, s.hours()); err != nil {
			if number(err) == errNoTable {
				return Settings{}, n.errorf(ErrNotMigrated, "set settings: %w", err)
			}
			return Settings{}, n.explain("set settings", err)
		}
	}
	return n.loadSettings(ctx, db)
}
