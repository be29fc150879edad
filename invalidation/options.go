package invalidation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/logging"
	"github.com/sojourn-go/sojourn/internal/storekit"
)

// maxChannel is how many bytes of a name Postgres keeps. LISTEN cuts off the
// rest, pg_notify refuses it.
const maxChannel = 63

// Server is what the connection that wrote a heartbeat says of itself. It is
// used only to explain why heartbeats do not come back; the zero value says
// nothing.
type Server struct {
	Started  time.Time // pg_postmaster_start_time
	Database string    // current_database
}

// ListenOptions configure [Run]. Where nothing else is said, they are required.
type ListenOptions struct {
	// Cache is told what comes in. It must have no other Run.
	Cache *Cache

	// Channel is where the nodes talk, of at most 63 bytes; see [Channel].
	Channel string

	// Config or Pool says where to connect to, one of them: the server itself,
	// not a pooler or a standby. A config must come from [pgx.ParseConfig]. The
	// connection is none of the pool's; it is made with the pool's configuration
	// and hooks.
	Config *pgx.ConnConfig
	Pool   *pgxpool.Pool

	// DSN, if not empty, is another way to the database of Pool, around a pooler.
	// Where it is silent (user, password, TLS, the database's name), the pool's
	// configuration counts. BeforeConnect is called with both together and may
	// change all but the hosts, ports and database of DSN.
	DSN string

	// NodeName is shown as application_name in pg_stat_activity, with
	// " (listener)" behind it. Default: the name in the configuration, else
	// "sojourn".
	NodeName string

	// Beat sends payload with pg_notify through the connections that write
	// sessions, and returns nil only if it has been committed. It is called by
	// one goroutine, with half the lease for its time, but at least 100 ms.
	Beat func(ctx context.Context, payload string) (Server, error)

	// Lease returns the lease that the nodes have agreed on. While it returns an
	// error no heartbeats are sent, so that the cache falls silent. It is called
	// before each heartbeat, by one goroutine, and must not block.
	Lease func() (time.Duration, error)

	// OnPartitions is told that partitions were made or dropped. Meanwhile nothing
	// else is received, so it must not block. Default: not told.
	OnPartitions func()

	// OnError is told what begins to fail, as often as the Logger is warned. It
	// may be called by two goroutines at a time and must not block. Default: not
	// told.
	OnError func(error)

	// Logger gets a warning when something begins to fail and a line when it is
	// over. What comes again, or goes on, is counted and logged at debug level.
	// There is one warning of a kind an hour, or after ten quiet minutes; it
	// says how often the failure came since. If it is nil, warnings and errors
	// go to the default logger of log/slog; zap.NewNop() silences them.
	Logger *zap.Logger
}

func (o ListenOptions) withDefaults() ListenOptions {
	if o.OnPartitions == nil {
		o.OnPartitions = func() {}
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	o.Logger = logging.Or(o.Logger)
	return o
}

func (o ListenOptions) validate() error {
	switch {
	case o.Cache == nil:
		return errors.New("invalidation: ListenOptions.Cache is nil")
	case o.Channel == "":
		return errors.New("invalidation: ListenOptions.Channel is empty")
	case len(o.Channel) > maxChannel:
		return fmt.Errorf("invalidation: ListenOptions.Channel has %d bytes; it must not have more than %d", len(o.Channel), maxChannel)
	case o.Config == nil && o.Pool == nil:
		return errors.New("invalidation: ListenOptions.Config and Pool are nil; one of them is needed")
	case o.Config != nil && o.Pool != nil:
		return errors.New("invalidation: ListenOptions.Config and Pool are both set; only one may be")
	case o.DSN != "" && o.Pool == nil:
		return errors.New("invalidation: ListenOptions.DSN is set; it needs a Pool")
	case o.Beat == nil:
		return errors.New("invalidation: ListenOptions.Beat is nil")
	case o.Lease == nil:
		return errors.New("invalidation: ListenOptions.Lease is nil")
	}
	for field, text := range map[string]string{"Channel": o.Channel, "NodeName": o.NodeName} {
		if err := storekit.Name("ListenOptions."+field, text, storekit.MaxNodeName+len(" (listener)")); err != nil {
			return fmt.Errorf("invalidation: %w", err)
		}
	}
	return nil
}
