package pgstore

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/maypok86/otter/v2"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/internal/reach"
	"github.com/sojourn-go/sojourn/internal/redacted"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/pgstore/internal/partition"
	"github.com/sojourn-go/sojourn/session"
)

var _ interface {
	session.Store
	session.Clock
	session.Putter
	session.Lister
	session.Clearer
	session.UserIndex
	session.Pruner
	session.FreshGetter
	session.LateToucher
	session.NodeWaiter
	session.Explainer
	session.DataLimiter
	session.Statser
} = (*Store)(nil)

// placeholder makes what embeds it print as a placeholder.
type placeholder = redacted.Value

// Store keeps sessions in Postgres. Use New to make one.
type Store struct {
	placeholder
	opts  Options
	log   *zap.Logger
	names pgschema.Names

	pool    *pgxpool.Pool // the caller's
	conns   *db.Conns
	app     db.Road       // for what may use the caller's pool
	control db.Road       // for what must not queue behind the caller's queries
	pulse   *pgxpool.Pool // ours, for heartbeats, which must not queue at all

	onParent  *texts
	parent    *parentQueries
	lockClass int32 // of advisory locks in the two-number form
	keyLock   int64 // of advisory locks on a key

	table  *partition.Table
	hints  *otter.Cache[[sha256.Size]byte, int32] // where keys without a bucket are
	probes chan struct{}

	cache    *invalidation.Cache
	channel  string
	fills    chan struct{}
	promised *promisedTouches

	writes *batch.Writer

	pruning *partition.Pruning
	stats   counters

	closed       atomic.Bool
	stop         context.CancelCauseFunc // ends what goes on by itself
	promisedLoop sync.WaitGroup
	loops        sync.WaitGroup
	finished     chan struct{}
	closing      sync.Once
}

const (
	maxProbes = 4       // searches through all partitions at a time
	maxHints  = 100_000 // about 8 MB

	fillShare = 0.75 // of the pool's connections

	// Of two heartbeats, one may be stuck with a connection that fell silent.
	pulseConns = 2
)

// New returns a store on the table that migrations.Up has made. The pool stays
// the caller's and must outlive the store. ctx bounds New only. New tries a
// server that cannot be reached yet again until ctx ends, or for 30 seconds if
// ctx has no deadline. A wrong password or an unknown database fails at once.
//
// New makes connections of its own with the pool's configuration, hooks
// included. One is for maintenance; unless there is no cache, one listens and
// one sends heartbeats. Up to eight more are opened on demand and closed when
// they have been idle for two minutes. They are for logouts, which must not
// queue behind the application's queries, and for waiting for locks. They also
// take what the pool has no connection for within a tenth of a second. So
// handlers may hold connections, in transactions too, while their sessions are
// read and saved. A connection that falls silent holds up only callers that
// need the row that it is about. See ConfigurePool for what the pool itself can
// do about such connections.
func New(ctx context.Context, pool *pgxpool.Pool, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, wrap("new", err)
	}
	names, err := pgschema.NamesOf(opts.Schema, opts.Table)
	if err != nil {
		return nil, wrap("new", err)
	}
	if _, err := direct.Around(pool, opts.DirectDSN); err != nil {
		return nil, wrap("new", fmt.Errorf("Options.DirectDSN: %w", err))
	}
	if err := reach.Database(ctx, pool.Ping); err != nil {
		return nil, wrap("new", fmt.Errorf("schema %q, table %q: %w", opts.Schema, opts.Table, err))
	}
	if err := validate(ctx, pool, names); err != nil {
		return nil, wrap("new", err)
	}
	hints, err := otter.New(&otter.Options[[sha256.Size]byte, int32]{MaximumSize: maxHints})
	if err != nil {
		return nil, wrap("new", err)
	}
	s := &Store{
		opts:     opts,
		log:      opts.Logger.Named("pgstore").With(zap.String("table", opts.Schema+"."+opts.Table)),
		names:    names,
		pool:     pool,
		onParent: newTexts(names.Sessions),
		parent:   newParentQueries(names.Sessions, names.Meta),
		hints:    hints,
		probes:   make(chan struct{}, maxProbes),
		channel:  invalidation.Channel(opts.Schema, opts.Table),
		fills:    make(chan struct{}, max(1, int(fillShare*float64(pool.Config().MaxConns)))),
		promised: newPromisedTouches(),
		finished: make(chan struct{}),
	}
	s.cache, err = invalidation.NewCache(invalidation.CacheOptions{MaxBytes: max(opts.CacheBytes, 1), OnLease: opts.OnLease})
	if err != nil {
		return nil, wrap("new", err)
	}
	s.lockClass, s.keyLock = int32(s.lockKey("users")), s.lockKey("keys")
	if s.pulse, err = db.OwnPool(ctx, pool, pulseConns); err != nil {
		return nil, wrap("new", err)
	}
	s.conns, err = db.New(ctx, pool, db.Options{
		Channel: s.channel, ReadTimeout: opts.ReadTimeout, WriteTimeout: opts.WriteTimeout, Unhurried: opts.unhurried,
	})
	if err != nil {
		s.pulse.Close()
		return nil, wrap("new", err)
	}
	s.app, s.control = s.conns.Roads()
	s.table, err = partition.New(ctx, partition.Options{
		Names: names, Conns: s.conns, Road: s.control, WriteTimeout: opts.WriteTimeout,
		Texts: func(table string) any { return newTexts(table) }, Failed: s.backgroundError,
	})
	if err == nil {
		err = agree(opts, s.table.Known.Load())
	}
	if err != nil {
		s.conns.Break()
		s.conns.Close()
		s.pulse.Close()
		return nil, wrap("new", err)
	}
	adviseOnPool(s.log, pool)
	s.start()
	return s, nil
}

// validate looks at the table whatever the settings of the pool's role.
func validate(ctx context.Context, pool *pgxpool.Pool, names pgschema.Names) error {
	tx, err := pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: db.BeginRead})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // it has changed nothing
	return pgschema.Validate(ctx, tx, names)
}

// agree compares what all nodes have to agree on.
func agree(opts Options, f *partition.Facts) error {
	for _, c := range []struct {
		field         string
		given, stored time.Duration
	}{
		{"LongestLifetime", opts.LongestLifetime, f.Longest},
		{"PartitionWidth", opts.PartitionWidth, f.Width},
		{"Lease", opts.Lease, f.Lease},
		{"RetireGrace", opts.RetireGrace, f.Grace},
	} {
		if c.given != 0 && c.given != c.stored {
			agreed := c.stored.String()
			if c.stored == 0 {
				agreed = "the default"
			}
			return fmt.Errorf("the given Options.%s is %v, but the nodes agreed on %s in the database; migrations.SetSettings changes that", c.field, c.given, agreed)
		}
	}
	return nil
}

func (s *Store) start() {
	var run context.Context
	run, s.stop = context.WithCancelCause(context.Background())
	s.writes = batch.New(batch.Options{
		App: s.app, Control: s.control, Items: s.opts.BatchItems, Bytes: s.opts.BatchBytes, WriteTimeout: s.opts.WriteTimeout,
		Parent: s.names.Sessions, LockClass: s.lockClass,
		Find: s.findTexts, Stale: s.table.RefreshSoon, Now: s.Now, Longest: s.Longest, Compare: s.table.Compare,
		Payloads: func(keys ...session.Key) []string { return s.cache.Sender().Keys(keys...) }, // under the present name
		Disown:   s.cache.Disown, Log: s.log,
	})
	s.loops.Go(func() { s.table.Run(run) })
	s.promisedLoop.Go(s.writePromised)
	if s.opts.CacheBytes > 0 {
		s.loops.Go(func() { s.listen(run) })
	}
	s.pruning = partition.NewPruning(s.table, partition.PruneOptions{
		NodeName: s.opts.NodeName, Premake: s.opts.Premake,
		Pause: func() time.Duration {
			return storekit.NextPrune(s.opts.NextPrune, storekit.PruneInterval(s.opts.PruneInterval))
		},
		LockKey: s.lockKey, Locker: s.locker,
		Notify: s.notifyPartitions, FailedAgain: func() { s.stats.backgroundErrors.Add(1) }, Log: s.log,
	})
	if s.opts.PruneInterval > 0 {
		s.StartPruning()
	}
}

// findTexts finds the statements of the partition of bucket, and its end.
func (s *Store) findTexts(bucket int32) (*batch.Texts, int64) {
	part := s.table.Find(bucket)
	if part == nil {
		return nil, 0
	}
	return textsOf(part).Texts, part.Hi
}

// Close implements session.Store. It leaves the caller's pool open. When ctx ends
// before all is written, what is left fails, and connections are broken instead
// of waited for: then nothing of the store is left about a second later.
func (s *Store) Close(ctx context.Context) error {
	s.closing.Do(func() {
		s.closed.Store(true)
		s.promised.close()
		go func() {
			defer close(s.finished)
			s.promisedLoop.Wait()
			s.writes.Close()
			s.stop(session.ErrClosed)
			_ = s.pruning.Close(context.Background()) // which does not end
			s.loops.Wait()
			s.conns.Close()
			s.pulse.Close()
			s.conns.Break()
		}()
	})
	select {
	case <-s.finished:
		return nil
	case <-ctx.Done():
		s.stop(session.ErrClosed)
		s.conns.Break()
		return wrap("close", wait.Ended(ctx))
	}
}

// begun is the start of every call.
func (s *Store) begun(ctx context.Context) error {
	if s.closed.Load() {
		return session.ErrClosed
	}
	return wait.Ended(ctx)
}

// limits returns the limits as they are now: nodes may agree on another longest
// lifetime.
func (s *Store) limits() storekit.Limits {
	return storekit.Limits{MaxData: s.opts.MaxData, MaxUser: s.opts.MaxUser, MostUser: maxUser, Longest: s.Longest(), Slack: storekit.ClockSlack}
}

// backgroundError reports a failure that no caller is waiting for.
func (s *Store) backgroundError(doing string, err error) {
	err = wrap(doing, err)
	s.log.Error("background work failed", zap.String("work", doing), zap.Error(err))
	s.countError(err)
}

// countError is backgroundError for what is logged already.
func (s *Store) countError(err error) {
	s.stats.backgroundErrors.Add(1)
	if s.opts.OnError != nil {
		s.opts.OnError(err)
	}
}

// refused counts a write that was refused for a reason of its own.
func (s *Store) refused(err error) error {
	if db.IsRefusal(err) {
		s.stats.refused.Add(1)
	}
	return err
}
