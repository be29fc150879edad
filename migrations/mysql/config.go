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
	c.Settings.RetireGrace = cmp.Or(c.Settings.RetireGrace, DefaultRetireGrace)
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

// The limits of Settings, and a default.
const (
	MaxLifetime        = 87600 * time.Hour // ten years
	MinRetireGrace     = time.Minute
	DefaultRetireGrace = 24 * time.Hour
)

// Settings is what all nodes that share the sessions must agree on. The
// database holds it.
type Settings struct {
	// LongestLifetime is how far ahead the deadline of a session may lie:
	// whole hours, from 1 h to MaxLifetime. 0 means 30 days.
	LongestLifetime time.Duration
	// RetireGrace is for how long a dead session is remembered: an ended one
	// after its bucket has passed, one that was idle after its expiry. Whole
	// seconds from MinRetireGrace to MaxLifetime; 0 means DefaultRetireGrace. A
	// write that began while its session was live must not last longer, nor may
	// the database's clock be set back by more.
	RetireGrace time.Duration
}

// validate checks the fields that are not zero.
func (s Settings) validate() error {
	for _, c := range []struct {
		field             string
		got, least, whole time.Duration
	}{
		{"LongestLifetime", s.LongestLifetime, time.Hour, time.Hour},
		{"RetireGrace", s.RetireGrace, MinRetireGrace, time.Second},
	} {
		switch {
		case c.got == 0:
		case c.got < c.least || c.got > MaxLifetime:
			return fmt.Errorf("%w: Settings.%s is %s; it must be from %s to %s", ErrInvalid, c.field, c.got, c.least, MaxLifetime)
		case c.got%c.whole != 0:
			return fmt.Errorf("%w: Settings.%s is %s; it must be a multiple of %s", ErrInvalid, c.field, c.got, c.whole)
		}
	}
	return nil
}

func (s Settings) hours() int64         { return int64(s.LongestLifetime / time.Hour) }
func (s Settings) retireSeconds() int64 { return int64(s.RetireGrace / time.Second) }

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
	var hours, grace int64
	err := db.QueryRowContext(ctx, `SELECT longest_hours, retire_grace_s FROM `+n.meta).Scan(&hours, &grace)
	switch {
	case err == sql.ErrNoRows || number(err) == errNoTable:
		return Settings{}, n.errorf(ErrNotMigrated, "load settings: %w", err)
	case err != nil:
		return Settings{}, n.explain("load settings", err)
	}
	return Settings{LongestLifetime: time.Duration(hours) * time.Hour, RetireGrace: time.Duration(grace) * time.Second}, nil
}

// RetireGrace is the SQL expression, over the meta table, of the retire grace in
// force, in seconds: a shorter one is not until the former has passed.
const RetireGrace = `GREATEST(retire_grace_s, IF(retire_grace_changed_at + retire_grace_was_s * 1000000 > ` + present + `, retire_grace_was_s, 0))`

const present = `TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))`

// SetSettings changes the settings that are not zero in s and returns all that
// hold then. Nodes that run follow within a minute. Nodes whose options say
// something else refuse to start from then on. A shorter longest lifetime does
// not shorten sessions that exist, and a shorter retire grace is in force once
// the former has passed.
func SetSettings(ctx context.Context, db Querier, cfg Config, s Settings) (Settings, error) {
	n, err := cfg.withDefaults().names()
	if err != nil {
		return Settings{}, err
	}
	if err := s.validate(); err != nil {
		return Settings{}, err
	}
	if s == (Settings{}) {
		return n.loadSettings(ctx, db)
	}
	// From left to right: what comes later sees what was set before.
	_, err = db.ExecContext(ctx, `UPDATE `+n.meta+` SET
  longest_hours = IF(? > 0, ?, longest_hours),
  retire_grace_was_s = IF(? > 0, `+RetireGrace+`, retire_grace_was_s),
  retire_grace_changed_at = IF(? > 0, `+present+`, retire_grace_changed_at),
  retire_grace_s = IF(? > 0, ?, retire_grace_s)
WHERE one = 1`, s.hours(), s.hours(), s.retireSeconds(), s.retireSeconds(), s.retireSeconds(), s.retireSeconds())
	switch {
	case number(err) == errNoTable:
		return Settings{}, n.errorf(ErrNotMigrated, "set settings: %w", err)
	case err != nil:
		return Settings{}, n.explain("set settings", err)
	}
	return n.loadSettings(ctx, db)
}
