package pgstore

import (
	"context"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// partition takes the buckets from lo to before hi.
type partition struct {
	schema, name string
	lo, hi       int64 // one wider than a bucket, for the open ends
	table        string
	q            *queries
}

func (part partition) takes(bucket int32) bool {
	return part.lo <= int64(bucket) && int64(bucket) < part.hi
}

// partitionMap is a snapshot of the partitions. It may be out of date: a bucket
// that it lacks goes through the parent, and so does a statement whose partition
// turns out to be gone.
type partitionMap struct {
	partitions []partition // by lo
	others     []hours     // of partitions that are reached through the parent alone
}

// hours is a range of buckets, from lo to before hi.
type hours struct{ lo, hi int64 }

// holds reports whether there is a partition that takes bucket.
func (m *partitionMap) holds(bucket int32) bool {
	b := int64(bucket)
	return m.find(bucket) != nil || slices.ContainsFunc(m.others, func(o hours) bool { return o.lo <= b && b < o.hi })
}

// find returns the partition of bucket, or nil.
func (m *partitionMap) find(bucket int32) *partition {
	i, found := slices.BinarySearchFunc(m.partitions, int64(bucket), func(part partition, b int64) int {
		switch {
		case part.hi <= b:
			return -1
		case part.lo > b:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return &m.partitions[i]
}

// firstGap returns the first bucket from lo to hi that no partition takes.
func (m *partitionMap) firstGap(lo, hi int64) (bucket int32, ok bool) {
	for _, part := range m.partitions {
		if part.lo > lo {
			break
		}
		lo = max(lo, part.hi)
	}
	return int32(lo), lo <= hi
}

// facts is what a node knows of the database besides the sessions. It is
// replaced as a whole.
type facts struct {
	partitionMap
	longest      time.Duration
	width        time.Duration
	lease        time.Duration // see invalidation
	grace        time.Duration // see Options.RetireGrace; 0 is the default
	graceInForce time.Duration
	queueUsage   float64 // of the server's notification queue
	foreign      bool    // keys without a bucket are in use
	maintained   session.Duty
	made         session.Duty
	retired      session.Duty
	thinned      session.Duty
	readAt       time.Time // this node's clock, monotonic
	databaseTime time.Time // the database's at readAt
}

// now is the database's time.
func (f *facts) now() time.Time { return f.databaseTime.Add(time.Since(f.readAt)) }

// batcher is a connection, a pool or a transaction.
type batcher interface {
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

// readFacts asks the database in one round trip.
func (s *Store) readFacts(ctx context.Context, db batcher, known *facts) (*facts, error) {
	f := &facts{}
	texts := map[string]*queries{} // keep the texts of partitions that stay
	if known != nil {
		for _, part := range known.partitions {
			texts[part.table] = part.q
		}
	}
	b := s.conns.NewRead()
	b.Queue(s.parent.meta).QueryRow(func(row pgx.Row) error {
		var longest, width, lease, grace, graceInForce int64
		duties := []*session.Duty{&f.maintained, &f.made, &f.retired, &f.thinned}
		var at [4]*time.Time
		if err := row.Scan(&longest, &width, &lease, &grace, &graceInForce, &f.foreign,
			&at[0], &duties[0].By, &at[1], &duties[1].By, &at[2], &duties[2].By, &at[3], &duties[3].By,
			&f.queueUsage, &f.databaseTime); err != nil {
			return err
		}
		// The node counts from the arrival of the answer. So its idea of the
		// database's time is never ahead of that: what has passed here has
		// passed there.
		f.readAt = time.Now()
		f.databaseTime = f.databaseTime.UTC()
		f.longest, f.width = time.Duration(longest)*time.Hour, time.Duration(width)*time.Hour
		f.lease = time.Duration(lease) * time.Millisecond
		f.grace, f.graceInForce = time.Duration(grace)*time.Second, time.Duration(graceInForce)*time.Second
		for i, t := range at {
			if t != nil {
				duties[i].Done = t.UTC()
			}
		}
		return nil
	})
	b.Queue(s.parent.partitions, s.names.Sessions).Query(func(rows pgx.Rows) error {
		var part partition
		var bound string
		var pending bool
		_, err := pgx.ForEachRow(rows, []any{&part.schema, &part.name, &bound, &pending}, func() error {
			var ok bool
			if part.lo, part.hi, ok = parseBound(bound); !ok || pending {
				switch {
				case bound == "": // it is being dropped
				case !ok:
					f.others = append(f.others, hours{math.MinInt32, math.MaxInt32 + 1})
				default:
					f.others = append(f.others, hours{part.lo, part.hi})
				}
				return nil
			}
			part.table = pgx.Identifier{part.schema, part.name}.Sanitize()
			if part.q = texts[part.table]; part.q == nil {
				part.q = newQueries(part.table)
			}
			f.partitions = append(f.partitions, part)
			return nil
		})
		return err
	})
	if err := db.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	slices.SortFunc(f.partitions, func(a, b partition) int { return int(a.lo - b.lo) })
	return f, nil
}

var boundText = regexp.MustCompile(`^FOR VALUES FROM \((?:'?(-?\d+)'?|MINVALUE)\) TO \((?:'?(-?\d+)'?|MAXVALUE)\)$`)

// parseBound reads pg_get_expr's text of a range partition's bound.
func parseBound(text string) (lo, hi int64, ok bool) {
	m := boundText.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, false
	}
	lo, hi = math.MinInt32, math.MaxInt32+1
	var err error
	if m[1] != "" {
		if lo, err = strconv.ParseInt(m[1], 10, 64); err != nil {
			return 0, 0, false
		}
	}
	if m[2] != "" {
		if hi, err = strconv.ParseInt(m[2], 10, 64); err != nil {
			return 0, 0, false
		}
	}
	return lo, hi, true
}

// makePartition has the database make the partition of bucket, if it lacks one.
// Any node that needs a partition may call it; the database checks that the
// bucket is in range.
func (s *Store) makePartition(ctx context.Context, r db.Road, bucket int32) error {
	r.LockWait = 200 * time.Millisecond
	return s.retry(ctx, func(ctx context.Context) error {
		b := r.NewBatch(ctx)
		b.Queue(s.parent.makePartition, bucket)
		return r.Send(ctx, b)
	})
}
