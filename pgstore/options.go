package pgstore

import (
	"cmp"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/logging"
	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/invalidation"
)

// Options configure a Store. The zero value works with a database that
// migrations.Up has prepared with its defaults.
//
// How statements are sent (prepared or not) is the pool's own setting,
// pgx.ConnConfig.DefaultQueryExecMode; every mode works. The default, cached
// prepared statements, is about twice as fast as the others. A pooler in
// transaction mode must know prepared statements, as PgBouncer 1.21 does.
// Behind an older one use QueryExecModeCacheDescribe or QueryExecModeExec.
// QueryExecModeDescribeExec works behind no pooler: its two round trips may
// reach two server processes.
//
// They print, log and marshal as a placeholder: DirectDSN may have a password.
type Options struct {
	placeholder

	// Schema and Table name the sessions table; the defaults are
	// migrations.DefaultSchema and migrations.DefaultTable. Any name that
	// Postgres allows is allowed.
	Schema, Table string

	// LongestLifetime, PartitionWidth, Lease and RetireGrace must agree on all nodes
	// and are stored in the database: zero adopts what is stored, anything else
	// must equal it or New fails. migrations.SetSettings changes them.
	//
	// RetireGrace is for how long after its last deadline a partition is kept,
	// and for how long an idle-expired session is kept in any case. A write that
	// began while its session was live must not last longer. Unless it was set it
	// is an hour, or a day once the table holds keys without a bucket. A shorter
	// one is in force once the former has passed.
	LongestLifetime, PartitionWidth, Lease, RetireGrace time.Duration

	// CacheBytes bounds the memory that sessions take on this node, by an
	// estimate. Default 64 MiB; negative: every read asks the database.
	CacheBytes int64

	// OnLease, if set, is told when this node begins to answer from its memory
	// and when it has to stop. It is called from one goroutine at a time and
	// must neither block nor call the store.
	OnLease func(invalidation.LeaseChange)

	// MaxData and MaxUser are the longest data and user in bytes. Defaults
	// 1 MiB and 255.
	MaxData, MaxUser int

	// BatchItems and BatchBytes bound what one transaction writes for
	// concurrent callers. Defaults 500 and 1 MiB. Of creates, saves, touches and
	// logouts, sixteen times as much each may wait or be under way; see
	// session.QueueStats.
	BatchItems, BatchBytes int

	// WriteTimeout bounds a write, the wait for those before it and retries
	// included; callers may give up earlier by their context. The answer to one that
	// was sent may take an eighth of that, and a second, longer. Default 10 s, most an
	// hour.
	WriteTimeout time.Duration

	// ReadTimeout bounds a read of the database, and waiting for a connection for
	// it; callers may give up earlier by their context. Default 5 s, most an hour. Len,
	// which reads the whole table, is bounded by its context only.
	ReadTimeout time.Duration

	// Premake is how much further than LongestLifetime from now partitions are
	// made ahead. Default and least 24 h, most 47 h.
	Premake time.Duration

	// PruneInterval is the mean time between two passes of maintenance on the
	// node that leads; each wait is jittered by a quarter. Default 1 min;
	// negative: this node takes no part until StartPruning.
	PruneInterval time.Duration

	// NextPrune, if set, is asked for each wait instead. It is called from one
	// goroutine.
	NextPrune func() time.Duration

	// DirectDSN leads to the same database without a transaction pooler. It is
	// needed where the pool connects through one: leadership is a session lock,
	// and LISTEN belongs to a session too. Empty: the pool's own configuration.
	//
	// Where it is silent (user, password, TLS, the database's name), the pool's
	// configuration counts, so hosts and ports are enough. The pool's
	// BeforeConnect is called with both together and may change all but those of
	// hosts, ports and database that DirectDSN names; AfterConnect is called too.
	// A node whose DirectDSN leads to another database never leads.
	DirectDSN string

	// NodeName tells the nodes apart, in Stats and in pg_stat_activity: UTF-8
	// without NUL, at most 255 bytes. Default: host name and process ID.
	NodeName string

	// OnError, if set, is told of every failure of background work, which is
	// also logged. It is called from several goroutines and must not block.
	OnError func(error)

	// Logger never sees a session ID. If it is nil, warnings and errors go to the
	// default logger of log/slog; zap.NewNop() silences them.
	Logger *zap.Logger

	// unhurried has a write wait for an answer for as long as the write may
	// take at all. Some tests must not take the late answer of a busy machine
	// for a fault.
	unhurried bool
}

// maxPremake is two days, which is how far ahead anybody may make partitions,
// but for the hour that has begun.
const maxPremake = 47 * time.Hour

// maxUser is the most that Options.MaxUser may be: the user index takes entries up
// to about 2,700 bytes.
const maxUser = 2000

func (o Options) withDefaults() Options {
	o.Schema = cmp.Or(o.Schema, pgschema.DefaultSchema)
	o.Table = cmp.Or(o.Table, pgschema.DefaultTable)
	o.CacheBytes = cmp.Or(o.CacheBytes, 64<<20)
	o.MaxData = cmp.Or(o.MaxData, 1<<20)
	o.MaxUser = cmp.Or(o.MaxUser, 255)
	o.BatchItems = cmp.Or(o.BatchItems, 500)
	o.BatchBytes = cmp.Or(o.BatchBytes, 1<<20)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 10*time.Second)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 5*time.Second)
	o.Premake = cmp.Or(o.Premake, 24*time.Hour)
	o.PruneInterval = cmp.Or(o.PruneInterval, time.Minute)
	o.NodeName = cmp.Or(o.NodeName, storekit.NodeName())
	o.Logger = logging.Or(o.Logger)
	return o
}

func (o Options) validate() error {
	return cmp.Or(
		storekit.BetweenIfSet("LongestLifetime", o.LongestLifetime, time.Hour, pgschema.MaxLifetime),
		storekit.BetweenIfSet("PartitionWidth", o.PartitionWidth, time.Hour, pgschema.MaxLifetime),
		storekit.BetweenIfSet("Lease", o.Lease, pgschema.MinLease, pgschema.MaxLease),
		storekit.Between("MaxData", o.MaxData, 1, 512<<20),
		storekit.Between("MaxUser", o.MaxUser, 1, maxUser),
		storekit.Between("BatchItems", o.BatchItems, 1, 10_000),
		storekit.Between("BatchBytes", o.BatchBytes, 1, 512<<20),
		storekit.Between("WriteTimeout", o.WriteTimeout, time.Millisecond, time.Hour),
		storekit.Between("ReadTimeout", o.ReadTimeout, time.Millisecond, time.Hour),
		storekit.Between("Premake", o.Premake, 24*time.Hour, maxPremake),
		storekit.BetweenIfSet("RetireGrace", o.RetireGrace, pgschema.MinRetireGrace, pgschema.MaxLifetime),
		storekit.Between("PruneInterval", max(o.PruneInterval, 0), 0, pgschema.MaxLifetime),
		storekit.Name("Options.NodeName", o.NodeName, storekit.MaxNodeName),
	)
}
