package nodestore

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/logging"
	"github.com/sojourn-go/sojourn/internal/storekit"
)

const defaultPruneInterval = 15 * time.Minute

// Options configure a Store. The zero Options work.
type Options struct {
	// DefaultTTL is how long a session lives whose document does not say; 0
	// means the layout's. It should be the Node application's.
	DefaultTTL time.Duration

	// DisableTouch makes Touch write nothing.
	DisableTouch bool

	// TouchEvery is by how much an expiry must move forward for Touch to write
	// it; 0 writes always. Sessions then may expire by as much early.
	TouchEvery time.Duration

	// MaxData limits a document in bytes; 0 means 1 MiB. What the column holds
	// is a limit as well.
	MaxData int

	// CreateTable makes the table and its index if they are missing, like those
	// of the Node package; see Layout.Collation too.
	CreateTable bool

	// CloseDB has Close close the pool as well, once nothing uses it any more. A New
	// that fails leaves it open.
	CloseDB bool

	// Extra are columns of the application's own, each with a function that
	// takes its value from the document whenever one is written. See Field. The
	// functions may be called concurrently; one that fails fails the write.
	Extra map[string]func(data []byte) (any, error)

	// PruneInterval is the mean time from a pass of pruning to the next one; each
	// wait is drawn from half of it to one and a half. A wait begins with New, and
	// anew after each pass, calls of Prune included. 0 means 15 minutes. Negative:
	// this process does not prune by time until StartPruning, and then as with 0.
	PruneInterval time.Duration

	// PruneExactly makes each wait the PruneInterval itself.
	PruneExactly bool

	// NextPrune, if set, makes each wait of the PruneInterval that it is given. It is
	// called from one goroutine.
	NextPrune func(interval time.Duration) time.Duration

	// PruneRequests has about one of so many calls of Get begin a pass in the
	// background, beside those by time. 0 means none.
	PruneRequests int

	// PruneBatch is how many rows one statement removes at most; 0 means 500.
	PruneBatch int

	// Leader, if set, has one process prune among all that share the table. It
	// takes part in an election until ctx ends and calls work whenever this
	// process leads, with a context that ends when it no longer does; see
	// leader.Alone. Nil: every process prunes, which is safe too.
	Leader func(ctx context.Context, work func(ctx context.Context) error) error

	// OnError, if set, is told of every failure of background work, which is
	// also logged. It is called from one goroutine and must not block.
	OnError func(error)

	// Logger never sees a session ID. At its debug level it is told of each call,
	// with the time that it took and session.ForeignKey of the layout's Package and
	// the ID. If it is nil, warnings and errors go to the default logger of
	// log/slog; zap.NewNop() silences them.
	Logger *zap.Logger
}

func (o Options) withDefaults(l Layout) Options {
	o.DefaultTTL = cmp.Or(o.DefaultTTL, l.DefaultTTL)
	o.MaxData = cmp.Or(o.MaxData, 1<<20)
	o.PruneInterval = cmp.Or(o.PruneInterval, defaultPruneInterval)
	o.PruneBatch = cmp.Or(o.PruneBatch, 500)
	o.Logger = logging.Or(o.Logger)
	return o
}

func (o Options) validate(l Layout) error {
	fail := func(field, format string, args ...any) error {
		return fmt.Errorf("nodestore: Options.%s %s", field, fmt.Sprintf(format, args...))
	}
	switch {
	case o.DefaultTTL < time.Millisecond:
		return fail("DefaultTTL", "is %v; it must be at least 1ms", o.DefaultTTL)
	case o.TouchEvery < 0:
		return fail("TouchEvery", "is %v; it must not be negative", o.TouchEvery)
	case o.MaxData < 1 || o.MaxData > 1<<30:
		return fail("MaxData", "is %d; it must be from 1 to %d", o.MaxData, 1<<30)
	case o.CreateTable && len(l.DDL) == 0:
		return fail("CreateTable", "is set, but the layout has no DDL")
	case o.PruneInterval > storekit.MaxLifetime:
		return fail("PruneInterval", "is %v; it must be %v at most", o.PruneInterval, storekit.MaxLifetime)
	case o.PruneRequests < 0:
		return fail("PruneRequests", "is %d; it must not be negative", o.PruneRequests)
	case o.PruneBatch < 1 || o.PruneBatch > 1000:
		return fail("PruneBatch", "is %d; it must be from 1 to 1000", o.PruneBatch)
	}
	c := l.Columns
	for column, value := range o.Extra {
		if why := badName(l.Dialect, column); why != "" {
			return fail("Extra", "has a column %q: its name %s", column, why)
		}
		for _, own := range []string{c.ID, c.Data, c.Expires, c.CreatedAt, c.UpdatedAt} {
			if column == own {
				return fail("Extra", "has %q, which is a column of the layout", column)
			}
		}
		if value == nil {
			return fail("Extra", "has no function for %q", column)
		}
	}
	return nil
}

func (o Options) nextPrune() time.Duration {
	mean := o.PruneInterval
	if mean < 0 { // started by hand
		mean = defaultPruneInterval
	}
	switch {
	case o.NextPrune != nil:
		return max(o.NextPrune(mean), time.Millisecond)
	case o.PruneExactly:
		return mean
	}
	return mean/2 + rand.N(mean+1)
}
