package mysqlstore

import (
	"cmp"
	"fmt"
	"math/bits"
	"runtime"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/logging"
	"github.com/sojourn-go/sojourn/internal/storekit"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
)

// Options configure a Store. The zero Options work. All nodes must have the
// same Table.
type Options struct {
	// Table names the sessions table, in the database that the pool's connections
	// have selected; empty means migrations/mysql.DefaultTable.
	Table string

	// Longest and RetireGrace must agree on all nodes and are stored in the
	// database: 0 adopts what is stored, anything else must equal it, or New is
	// ErrSettings. SetSettings of migrations/mysql changes them.
	//
	// Longest is the longest lifetime of a session. RetireGrace is for how long a
	// dead one is remembered: an ended one after its bucket has passed, one that
	// was idle after its expiry. A write that began while its session was live
	// must not last longer. Unless they were set they are 30 days and a day. A
	// shorter grace is in force once the former has passed.
	Longest, RetireGrace time.Duration

	// MaxData and MaxUser limit a session's data and user, in bytes; 0 means
	// 1 MiB, or less if the server's max_allowed_packet asks for it, and 255.
	MaxData, MaxUser int

	// BatchItems and BatchBytes bound what one transaction writes for
	// concurrent callers; 0 means 256 and 1 MiB. They are lowered to what
	// max_allowed_packet allows. Of creates, saves, touches and logouts, sixteen
	// times as much each may wait or be under way; see session.QueueStats.
	BatchItems, BatchBytes int

	// WriteTimeout is how long a write may take, with its waits for earlier
	// writes and for locked rows. 0 means 10 s; the least is 3 s. Callers may
	// give up earlier by their context. The answer to a write that was sent may
	// take an eighth of that, and a second, longer.
	WriteTimeout time.Duration

	// Readers and Writers are how many connections the store reads and writes
	// with at a time; 0 means 8, and twice the number of CPUs if that is more.
	// Two more are for what may take long, and one elects who prunes. A *sql.DB
	// that is limited to fewer connections gives half of them.
	Readers, Writers int

	// PruneInterval is the mean time between two passes of pruning; each wait is
	// jittered by a quarter. 0 means a minute. Negative: this node does not
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

func (o Options) withDefaults() Options {
	o.Table = cmp.Or(o.Table, migrations.DefaultTable)
	o.MaxUser = cmp.Or(o.MaxUser, 255)
	o.BatchItems = cmp.Or(o.BatchItems, 256)
	o.BatchBytes = cmp.Or(o.BatchBytes, 1<<20)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 10*time.Second)
	o.Readers = cmp.Or(o.Readers, max(8, 2*runtime.GOMAXPROCS(0)))
	o.Writers = cmp.Or(o.Writers, max(8, 2*runtime.GOMAXPROCS(0)))
	o.PruneInterval = cmp.Or(o.PruneInterval, time.Minute)
	o.NodeName = cmp.Or(o.NodeName, storekit.NodeName())
	o.Logger = logging.Or(o.Logger)
	return o
}

// maxBlob is the longest packet that the protocol's settings allow, less what
// else is in one.
const maxBlob = 1<<30 - packetRest

func (o Options) validate() error {
	if _, err := migrations.NamesOf(o.Table); err != nil {
		return fmt.Errorf("Options.Table: %w", err)
	}
	return cmp.Or(
		storekit.BetweenIfSet("Longest", o.Longest, time.Hour, storekit.MaxLifetime),
		storekit.Between("WriteTimeout", o.WriteTimeout, 3*time.Second, time.Hour),
		storekit.BetweenIfSet("RetireGrace", o.RetireGrace, migrations.MinRetireGrace, migrations.MaxLifetime),
		storekit.Between("PruneInterval", max(o.PruneInterval, 0), 0, storekit.MaxLifetime),
		storekit.BetweenIfSet("MaxData", o.MaxData, 1, maxBlob),
		storekit.Between("MaxUser", o.MaxUser, 1, migrations.MaxUser),
		storekit.Between("BatchItems", o.BatchItems, 1, maxSize),
		storekit.Between("BatchBytes", o.BatchBytes, 1, maxBlob),
		storekit.Between("Readers", o.Readers, 1, 1000),
		storekit.Between("Writers", o.Writers, 1, 1000),
		storekit.Name("Options.NodeName", o.NodeName, storekit.MaxNodeName),
	)
}

// packetRest is more than what is in a packet beside the data of a session.
const packetRest = 8 << 10

// fit makes the options such that no packet is longer than the server takes.
func (o Options) fit(packet int64) (Options, error) {
	most := int(min(packet, maxBlob)) - packetRest
	switch {
	case most < 4<<10:
		return o, fmt.Errorf("%w: the server's max_allowed_packet is %d; it must be at least 16384", ErrUnsuitable, packet)
	case o.MaxData > most:
		return o, fmt.Errorf("Options.MaxData is %d; the server's max_allowed_packet, %d, allows %d", o.MaxData, packet, most)
	}
	o.MaxData = cmp.Or(o.MaxData, min(1<<20, most))
	// A session alone may be larger than a batch.
	o.BatchBytes = min(o.BatchBytes, most)
	o.BatchItems = min(o.BatchItems, 1<<(bits.Len(uint(most/perItem))-1))
	return o, nil
}

func (o Options) migrations() migrations.Config { return migrations.Config{Table: o.Table} }

// shares are how many connections there are for each purpose.
type shares struct{ reads, writes, waits, scans, flights int }

// shares divides what a pool that is limited to most connections may give.
func (o Options) shares(most int) shares {
	s := shares{reads: o.Readers, writes: o.Writers, scans: scanners}
	if most > 0 && s.reads+s.writes+s.scans+1 > most/2 {
		s.scans = 1
		s.writes = max(1, (most/2-2)/2)
		s.reads = max(1, most/2-2-s.writes)
	}
	// Not all may wait for rows that others have locked.
	s.waits = max(1, s.writes/2)
	s.flights = max(1, s.writes/4)
	return s
}

// leastConns is what a pool must be able to give: half of them are the store's.
const leastConns = 8
