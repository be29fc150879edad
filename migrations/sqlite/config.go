package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlitecode"
)

// Version is the version of the tables that this package knows.
const Version = 1

// Config says where the sessions are. The zero Config is ready to use.
type Config struct {
	// Table is the sessions table, unquoted, from 1 to 200 bytes of UTF-8
	// without NUL; empty means DefaultTable.
	Table string
	// Settings are written when Up makes the tables, and only then. A database
	// that has settings keeps them: see SetSettings.
	Settings Settings
	// LockWait is how long Up waits for others that write; 0 means a minute,
	// negative no limit but the context's.
	LockWait time.Duration
}

func (c Config) withDefaults() Config {
	c.Table = cmp.Or(c.Table, DefaultTable)
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
	MinRetireGrace     = time.Minute
	MaxRetireGrace     = 87600 * time.Hour // ten years
	DefaultRetireGrace = 24 * time.Hour
)

// Settings is what all processes that share the sessions must agree on. The
// database holds it.
type Settings struct {
	// RetireGrace is for how long a dead session is remembered: an ended one
	// after its bucket has passed, one that was idle after its expiry. Whole
	// seconds from MinRetireGrace to MaxRetireGrace; 0 means DefaultRetireGrace.
	// A write that began while its session was live must not last longer, nor may
	// the machine's clock be set back by more.
	RetireGrace time.Duration
}

// validate checks the fields that are not zero.
func (s Settings) validate() error {
	switch d := s.RetireGrace; {
	case d == 0:
	case d < MinRetireGrace || d > MaxRetireGrace:
		return fmt.Errorf("%w: Settings.RetireGrace is %s; it must be from %s to %s", ErrInvalid, d, MinRetireGrace, MaxRetireGrace)
	case d%time.Second != 0:
		return fmt.Errorf("%w: Settings.RetireGrace is %s; it must be a multiple of %s", ErrInvalid, d, time.Second)
	}
	return nil
}

func (s Settings) retireSeconds() int64 { return int64(s.RetireGrace / time.Second) }

// LoadSettings returns the settings that the database holds.
func LoadSettings(ctx context.Context, db Querier, cfg Config) (Settings, error) {
	n, err := cfg.withDefaults().names()
	if err != nil {
		return Settings{}, err
	}
	return n.loadSettings(ctx, db)
}

func (n names) loadSettings(ctx context.Context, db Querier) (Settings, error) {
	var grace int64
	err := db.QueryRowContext(ctx, `SELECT retire_grace_s FROM `+n.meta).Scan(&grace)
	return Settings{RetireGrace: time.Duration(grace) * time.Second}, n.explainSettings("load settings", err)
}

// explainSettings explains what a statement on the settings failed with.
func (n names) explainSettings(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows) || sqlitecode.Of(err) == 1: // SQLITE_ERROR: there is no such table
		return n.errorf(ErrNotMigrated, "%s: %w", doing, err)
	}
	return n.explain(doing, err)
}

// RetireGrace is an SQL expression over the meta table: the retire grace in
// force, in seconds, at a time that is the statement's first argument, in
// microseconds. A shorter one is in force only once the former has passed.
const RetireGrace = `max(retire_grace_s, iif(retire_grace_changed_at + retire_grace_was_s * 1000000 > ?1, retire_grace_was_s, 0))`

// SetSettings changes the settings that are not zero in s and returns all that
// hold then. Processes that run follow at once. Processes whose options say
// something else refuse to start from then on. A shorter retire grace is in
// force once the former has passed.
func SetSettings(ctx context.Context, db Querier, cfg Config, s Settings) (Settings, error) {
	n, err := cfg.withDefaults().names()
	if err != nil {
		return Settings{}, err
	}
	if err := s.validate(); err != nil {
		return Settings{}, err
	}
	if s.RetireGrace != 0 {
		_, err := db.ExecContext(ctx, `UPDATE `+n.meta+` SET
  retire_grace_was_s = `+RetireGrace+`, retire_grace_changed_at = ?1, retire_grace_s = ?2`, time.Now().UnixMicro(), s.retireSeconds())
		if err != nil {
			return Settings{}, n.explainSettings("set settings", err)
		}
	}
	return n.loadSettings(ctx, db)
}
