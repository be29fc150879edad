package pgschema

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The limits of Settings.
const (
	MaxLifetime = 87600 * time.Hour // ten years
	MinLease    = 100 * time.Millisecond
	MaxLease    = time.Minute
	// MinRetireGrace is the least of Settings.RetireGrace, and DefaultRetireGrace
	// goes back to the default where zero changes nothing.
	MinRetireGrace     = time.Minute
	DefaultRetireGrace = -time.Second
	// MaxPartitions is how many partitions may lie ahead: a lookup that does not
	// know the deadline asks each of them.
	MaxPartitions = 200
)

// Settings is what all nodes that share the sessions must agree on. The
// database holds it.
type Settings struct {
	// LongestLifetime is how far ahead the deadline of a session may lie:
	// whole hours, from 1 h to MaxLifetime. 0 means 30 days.
	LongestLifetime time.Duration
	// PartitionWidth is how many hours of deadlines one partition holds: whole
	// hours, from 1 h to MaxLifetime, and so wide that MaxPartitions of them hold
	// the longest lifetime and a day. 0 means a ninth of that, rounded up.
	PartitionWidth time.Duration
	// Lease is for how long after its last proof of being in touch a node may
	// answer from its cache: whole milliseconds from MinLease to MaxLease. 0
	// means 2 s.
	Lease time.Duration
	// RetireGrace is for how long after its last deadline a partition is kept,
	// and for how long an idle-expired session is kept in any case: whole seconds
	// from MinRetireGrace to MaxLifetime. 0 means an hour, or a day once the table
	// holds keys without a bucket; so does DefaultRetireGrace, in SetSettings too.
	RetireGrace time.Duration
}

// WithDefaults fills in what is zero.
func (s Settings) WithDefaults() Settings {
	if s.LongestLifetime == 0 {
		s.LongestLifetime = 30 * 24 * time.Hour
	}
	if s.PartitionWidth == 0 {
		hours := (s.LongestLifetime + 24*time.Hour + 9*time.Hour - 1) / (9 * time.Hour)
		s.PartitionWidth = hours * time.Hour
	}
	if s.Lease == 0 {
		s.Lease = 2 * time.Second
	}
	return s
}

// Validate checks s after the defaults were filled in: ErrInvalid names the field
// and the limit.
func (s Settings) Validate() error {
	if err := s.validateFields(); err != nil {
		return err
	}
	if partitions := (s.LongestLifetime + 24*time.Hour) / s.PartitionWidth; partitions > MaxPartitions {
		return fmt.Errorf("%w: Settings.PartitionWidth is %s, which makes %d partitions for a LongestLifetime of %s; the limit is %d",
			ErrInvalid, s.PartitionWidth, partitions, s.LongestLifetime, MaxPartitions)
	}
	return nil
}

// validateFields checks the fields that are not zero.
func (s Settings) validateFields() error {
	if err := checkDuration("LongestLifetime", s.LongestLifetime, time.Hour, time.Hour, MaxLifetime); err != nil {
		return err
	}
	if err := checkDuration("PartitionWidth", s.PartitionWidth, time.Hour, time.Hour, MaxLifetime); err != nil {
		return err
	}
	if s.RetireGrace != DefaultRetireGrace {
		if err := checkDuration("RetireGrace", s.RetireGrace, time.Second, MinRetireGrace, MaxLifetime); err != nil {
			return err
		}
	}
	return checkDuration("Lease", s.Lease, time.Millisecond, MinLease, MaxLease)
}

func checkDuration(field string, d, unit, least, most time.Duration) error {
	switch {
	case d == 0:
		return nil
	case d < least || d > most:
		return fmt.Errorf("%w: Settings.%s is %s; it must be from %s to %s", ErrInvalid, field, d, least, most)
	case d%unit != 0:
		return fmt.Errorf("%w: Settings.%s is %s; it must be a multiple of %s", ErrInvalid, field, d, unit)
	}
	return nil
}

// Stored are settings as the meta table holds them.
type Stored struct {
	LongestHours, WidthHours, LeaseMillis int32
	RetireSeconds                         int32 // 0: the default
}

// ToStore returns the settings as the meta table holds them.
func ToStore(s Settings) Stored {
	return Stored{
		LongestHours:  int32(s.LongestLifetime / time.Hour),
		WidthHours:    int32(s.PartitionWidth / time.Hour),
		LeaseMillis:   int32(s.Lease / time.Millisecond),
		RetireSeconds: int32(max(s.RetireGrace, 0) / time.Second),
	}
}

// LoadSettings returns the settings that the database holds.
func LoadSettings(ctx context.Context, db Querier, names Names) (Settings, error) {
	s, err := scanSettings(db.QueryRow(ctx,
		`SELECT longest_hours, width_hours, lease_ms, retire_grace_s FROM `+names.Meta))
	if err != nil {
		return Settings{}, Explain(names, "load settings", err)
	}
	return s, nil
}

// LeaseMemory is for how long after a change of the lease a node may still go
// by the one before. Who has not read the settings for half of it must not use
// a lease at all.
const LeaseMemory = 10 * time.Minute

const leaseMemory = `interval '10 minutes'`

// LongestLease is the SQL expression, over the meta table, of the longest lease
// in milliseconds that any node may go by.
const LongestLease = `greatest(lease_ms, CASE WHEN lease_changed_at > pg_catalog.clock_timestamp() - ` + leaseMemory + ` THEN lease_was_ms END)`

const retireGrace = `CASE WHEN retire_grace_s > 0 THEN retire_grace_s WHEN foreign_keys THEN 86400 ELSE 3600 END`

// RetireGrace is the SQL expression, over the meta table, of the retire grace in
// force, in seconds: a shorter one is not until the former has passed.
const RetireGrace = `greatest(` + retireGrace + `, CASE WHEN retire_grace_changed_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => retire_grace_was_s) THEN retire_grace_was_s END)`

// SetSettings changes the settings that are not zero in s and returns all that
// hold then: see migrations.SetSettings.
func SetSettings(ctx context.Context, db Querier, names Names, s Settings) (Settings, error) {
	if err := s.validateFields(); err != nil {
		return Settings{}, err
	}
	stored := ToStore(s)
	got, err := scanSettings(db.QueryRow(ctx, `UPDATE `+names.Meta+` SET
			longest_hours = coalesce(nullif($1::integer, 0), longest_hours),
			width_hours = coalesce(nullif($2::integer, 0), width_hours),
			lease_was_ms = CASE WHEN nullif($3::integer, lease_ms) > 0
				THEN greatest(lease_ms, CASE WHEN lease_changed_at > pg_catalog.now() - `+leaseMemory+` THEN lease_was_ms END)
				ELSE lease_was_ms END,
			lease_changed_at = CASE WHEN nullif($3::integer, lease_ms) > 0 THEN pg_catalog.now() ELSE lease_changed_at END,
			lease_ms = coalesce(nullif($3::integer, 0), lease_ms),
			retire_grace_was_s = CASE WHEN $5 THEN `+RetireGrace+` ELSE retire_grace_was_s END,
			retire_grace_changed_at = CASE WHEN $5 THEN pg_catalog.now() ELSE retire_grace_changed_at END,
			retire_grace_s = CASE WHEN $5 THEN $4::integer ELSE retire_grace_s END,
			changed_at = pg_catalog.now()
		RETURNING longest_hours, width_hours, lease_ms, retire_grace_s`,
		stored.LongestHours, stored.WidthHours, stored.LeaseMillis, stored.RetireSeconds, s.RetireGrace != 0))
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "23514" { // check_violation
		return Settings{}, Errorf(names, ErrInvalid, "Settings.PartitionWidth and LongestLifetime would make more than %d partitions: %w", MaxPartitions, err)
	}
	if err != nil {
		return Settings{}, Explain(names, "set settings", err)
	}
	return got, nil
}

func scanSettings(row pgx.Row) (Settings, error) {
	var longest, width, lease, retire int32
	if err := row.Scan(&longest, &width, &lease, &retire); err != nil {
		return Settings{}, err
	}
	return Settings{
		LongestLifetime: time.Duration(longest) * time.Hour,
		PartitionWidth:  time.Duration(width) * time.Hour,
		Lease:           time.Duration(lease) * time.Millisecond,
		RetireGrace:     time.Duration(retire) * time.Second,
	}, nil
}
