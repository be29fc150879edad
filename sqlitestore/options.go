package sqlitestore

import (
	"cmp"
	"fmt"
	"runtime"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/logging"
	"github.com/sojourn-go/sojourn/internal/storekit"
	migrations "github.com/sojourn-go/sojourn/migrations/sqlite"
)

// Options configure a Store. The zero Options work. All processes that share the
// sessions must have the same Table.
type Options struct {
	// Table names the sessions table; empty means migrations/sqlite.DefaultTable.
	Table string

	// Longest is the longest lifetime of a session that this process creates; 0
	// means 30 days.
	Longest time.Duration

	// MaxData and MaxUser limit a session's data and user, in bytes; 0 means
	// 1 MiB and 255.
	MaxData, MaxUser int

	// Synchronous is what the store's writes wait for (sqlite.org/pragma.html,
	// synchronous).
	Synchronous Synchronous

	// BatchItems and BatchBytes bound what one transaction writes for
	// concurrent callers; 0 means 500 and 1 MiB. Of what ends sessions, and of
	// the rest, sixteen times as much each may wait; see session.QueueStats.
	BatchItems, BatchBytes int

	// WriteTimeout is how long a call waits while another connection keeps the
	// file locked, before it fails with ErrLocked. A write waits as long for
	// those before it. 0 means 10 s. Callers may give up earlier by their
	// context.
	WriteTimeout time.Duration

	// Readers is how many connections the store reads with at a time; 0 means
	// the number of CPUs, and at least four. Two more are for listings and one
	// for writes. A *sql.DB that is limited to fewer connections gives half of
	// them.
	Readers int

	// RetireGrace is for how long a dead session is remembered: an ended one
	// after its bucket has passed, one that was idle after its expiry. A write
	// that began while its session was live must not last longer. The database
	// stores it: 0 adopts what is stored, which is a day unless it was set.
	// Anything else must equal that, or New is ErrSettings. Open stores the
	// option in a database that it makes. SetSettings of migrations/sqlite
	// changes it. A shorter one is in force once the former has passed.
	RetireGrace time.Duration

	// PruneInterval is the mean time between two passes of pruning; each wait is
	// jittered by a quarter. 0 means a minute. Negative: this process does not
	// prune until StartPruning, and then each minute.
	PruneInterval time.Duration

	// NextPrune, if set, is asked for each wait instead. It is called from one
	// goroutine.
	NextPrune func() time.Duration

	// NodeName is for Stats.MaintainedBy: UTF-8 without NUL, at most 255 bytes.
	// Empty means host name and process ID.
	NodeName string

	// OnError, if set, is told of every failure of background work, which is
	// also logged. It is called from one goroutine and must not block.
	OnError func(error)

	// Logger never sees a session ID. If it is nil, warnings and errors go to the
	// default logger of log/slog; zap.NewNop() silences them.
	Logger *zap.Logger
}

// Synchronous says what survives a power failure. Whatever it is, nothing that
// was acknowledged is lost when only the process crashes.
type Synchronous int

const (
	// SynchronousFull waits until a write is on disk. It is the default.
	SynchronousFull Synchronous = iota
	// SynchronousNormal does not: a power failure or a crash of the operating
	// system may undo the last writes, logouts included, but does not damage
	// the file.
	SynchronousNormal
)

func (o Options) withDefaults() Options {
	o.Table = cmp.Or(o.Table, migrations.DefaultTable)
	o.Longest = cmp.Or(o.Longest, 30*24*time.Hour)
	o.MaxData = cmp.Or(o.MaxData, 1<<20)
	o.MaxUser = cmp.Or(o.MaxUser, 255)
	o.BatchItems = cmp.Or(o.BatchItems, 500)
	o.BatchBytes = cmp.Or(o.BatchBytes, 1<<20)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 10*time.Second)
	o.Readers = cmp.Or(o.Readers, max(4, runtime.GOMAXPROCS(0)))
	o.PruneInterval = cmp.Or(o.PruneInterval, time.Minute)
	o.NodeName = cmp.Or(o.NodeName, storekit.NodeName())
	o.Logger = logging.Or(o.Logger)
	return o
}

// maxUser is the most that Options.MaxUser may be.
const maxUser = 1 << 16

// maxBlob is SQLite's default limit of a row, SQLITE_MAX_LENGTH, less what
// else is in a row.
const maxBlob = 1_000_000_000 - 10_000

func (o Options) validate() error {
	if o.Synchronous != SynchronousFull && o.Synchronous != SynchronousNormal {
		return fmt.Errorf("Options.Synchronous is %d; it must be SynchronousFull or SynchronousNormal", o.Synchronous)
	}
	return cmp.Or(
		storekit.Between("Longest", o.Longest, time.Second, storekit.MaxLifetime),
		storekit.Between("WriteTimeout", o.WriteTimeout, time.Millisecond, time.Hour),
		storekit.BetweenIfSet("RetireGrace", o.RetireGrace, migrations.MinRetireGrace, migrations.MaxRetireGrace),
		storekit.Between("PruneInterval", max(o.PruneInterval, 0), 0, storekit.MaxLifetime),
		storekit.Between("MaxData", o.MaxData, 1, maxBlob),
		storekit.Between("MaxUser", o.MaxUser, 1, maxUser),
		storekit.Between("BatchItems", o.BatchItems, 1, 10_000),
		storekit.Between("BatchBytes", o.BatchBytes, 1, maxBlob),
		storekit.Between("Readers", o.Readers, 1, 1000),
		storekit.Name("Options.NodeName", o.NodeName, storekit.MaxNodeName),
	)
}

func (o Options) limits() storekit.Limits {
	return storekit.Limits{MaxData: o.MaxData, MaxUser: o.MaxUser, MostUser: maxUser, Longest: o.Longest, Slack: storekit.ClockSlack}
}

func (o Options) migrations() migrations.Config {
	return migrations.Config{Table: o.Table, Settings: migrations.Settings{RetireGrace: o.RetireGrace}}
}
