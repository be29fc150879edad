package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/invalidation"
)

// listen keeps s.cache in touch with the other nodes.
func (s *Store) listen(ctx context.Context) {
	opts := invalidation.ListenOptions{
		Cache:        s.cache,
		Channel:      s.channel,
		NodeName:     namePrefix + s.opts.NodeName,
		Pool:         s.pool,
		DSN:          s.opts.DirectDSN,
		Beat:         s.beat,
		Lease:        s.lease,
		OnPartitions: s.table.RefreshSoon,
		OnError:      s.countError,
		Logger:       s.log,
	}
	if err := invalidation.Run(ctx, opts); err != nil {
		s.backgroundError("listen", err)
	}
}

// beat sends a heartbeat the way writes go, but on a connection of its own, so
// that it waits for none.
func (s *Store) beat(ctx context.Context, payload string) (wrote invalidation.Server, err error) {
	b := s.conns.NewRead()
	b.Queue(heartbeat, s.channel, payload).QueryRow(func(row pgx.Row) error { return row.Scan(nil, &wrote.Started, &wrote.Database) })
	if err = s.pulse.SendBatch(ctx, b).Close(); err != nil {
		// What is wrong with this connection may be wrong with the other one: a
		// network that forgot them, or a primary that has become a standby and
		// keeps them.
		s.pulse.Reset()
	}
	return wrote, err
}

// lease is what the nodes have agreed on. A node that has not heard of a change
// for too long cannot know how long others wait for it.
func (s *Store) lease() (time.Duration, error) {
	f := s.table.Known.Load()
	// The age counts by the wall clock too, which goes on while the machine is
	// suspended.
	if age := max(time.Since(f.ReadAt), time.Since(f.ReadAt.Round(0))); age > pgschema.LeaseMemory/2 {
		return 0, fmt.Errorf("it was last read %v ago", age.Round(time.Second))
	}
	return f.Lease, nil
}

// notifyPartitions has the other nodes look at the partitions.
func (s *Store) notifyPartitions(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT pg_catalog.pg_notify($1, $2)`, s.channel, s.cache.Sender().Partitions())
	return err
}
