package partition

import (
	"context"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/session"
)

// Partition takes the buckets from Lo to before Hi.
type Partition struct {
	Lo, Hi int64 // one wider than a bucket, for the open ends
	Name   string
	Table  string // the name, quoted and qualified
	Texts  any    // see Options.Texts
}

// Takes reports whether the rows of bucket are in the partition.
func (part Partition) Takes(bucket int32) bool {
	return part.Lo <= int64(bucket) && int64(bucket) < part.Hi
}

// Map is a snapshot of the partitions. It may be out of date: a bucket
// that it lacks goes through the parent, and so does a statement whose partition
// turns out to be gone.
type Map struct {
	Partitions []Partition // by Lo
	Others     []Partition // that are reached through the parent alone, without a Table
}

// holds reports whether there is a partition that takes bucket.
func (m *Map) holds(bucket int32) bool {
	return m.Find(bucket) != nil || slices.ContainsFunc(m.Others, func(part Partition) bool { return part.Takes(bucket) })
}

// Find returns the partition of bucket, or nil.
func (m *Map) Find(bucket int32) *Partition {
	i, found := slices.BinarySearchFunc(m.Partitions, int64(bucket), func(part Partition, b int64) int {
		switch {
		case part.Hi <= b:
			return -1
		case part.Lo > b:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return &m.Partitions[i]
}

// firstGap returns the first bucket from lo to hi that no partition takes.
func (m *Map) firstGap(lo, hi int64) (bucket int32, ok bool) {
	for _, part := range m.Partitions {
		if part.Lo > lo {
			break
		}
		lo = max(lo, part.Hi)
	}
	return int32(lo), lo <= hi
}

// Facts is what a node knows of the database besides the sessions. It is
// replaced as a whole.
type Facts struct {
	Map
	Longest      time.Duration // lifetime of a session
	Width        time.Duration // of a partition
	Lease        time.Duration // see invalidation
	LongestLease time.Duration // that any node may go by
	Grace        time.Duration // before a partition is retired; 0 is the default
	GraceInForce time.Duration
	QueueUsage   float64 // of the server's notification queue
	Foreign      bool    // keys without a bucket are in use
	Maintained   session.Duty
	Made         session.Duty
	Retired      session.Duty
	Thinned      session.Duty
	ReadAt       time.Time // this node's clock, monotonic
	DatabaseTime time.Time // the database's at ReadAt
}

// Now is the database's time.
func (f *Facts) Now() time.Time { return f.DatabaseTime.Add(time.Since(f.ReadAt)) }

// batcher is a connection, a pool or a transaction.
type batcher interface {
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

// read asks the database in one round trip.
func (t *Table) read(ctx context.Context, on batcher) (*Facts, error) {
	f := &Facts{}
	texts := map[string]any{} // of partitions that stay
	if known := t.Known.Load(); known != nil {
		for _, part := range known.Partitions {
			texts[part.Table] = part.Texts
		}
	}
	b := t.opts.Conns.NewRead()
	b.Queue(t.queries.meta).QueryRow(func(row pgx.Row) error {
		var longest, width, lease, longestLease, grace, graceInForce int64
		duties := []*session.Duty{&f.Maintained, &f.Made, &f.Retired, &f.Thinned}
		var at [4]*time.Time
		if err := row.Scan(&longest, &width, &lease, &longestLease, &grace, &graceInForce, &f.Foreign,
			&at[0], &duties[0].By, &at[1], &duties[1].By, &at[2], &duties[2].By, &at[3], &duties[3].By,
			&f.QueueUsage, &f.DatabaseTime); err != nil {
			return err
		}
		// The node counts from the arrival of the answer. So its idea of the
		// database's time is never ahead of that: what has passed here has
		// passed there.
		f.ReadAt = time.Now()
		f.DatabaseTime = f.DatabaseTime.UTC()
		f.Longest, f.Width = time.Duration(longest)*time.Hour, time.Duration(width)*time.Hour
		f.Lease, f.LongestLease = time.Duration(lease)*time.Millisecond, time.Duration(longestLease)*time.Millisecond
		f.Grace, f.GraceInForce = time.Duration(grace)*time.Second, time.Duration(graceInForce)*time.Second
		for i, done := range at {
			if done != nil {
				duties[i].Done = done.UTC()
			}
		}
		return nil
	})
	b.Queue(t.queries.partitions, t.opts.Names.Sessions).Query(func(rows pgx.Rows) error {
		var part Partition
		var schema, bound string
		var pending bool
		_, err := pgx.ForEachRow(rows, []any{&schema, &part.Name, &bound, &pending}, func() error {
			var ok bool
			if part.Lo, part.Hi, ok = parseBound(bound); !ok || pending {
				switch {
				case bound == "": // it is being dropped
				case !ok:
					f.Others = append(f.Others, Partition{Lo: math.MinInt32, Hi: math.MaxInt32 + 1})
				default:
					f.Others = append(f.Others, Partition{Lo: part.Lo, Hi: part.Hi})
				}
				return nil
			}
			part.Table = pgx.Identifier{schema, part.Name}.Sanitize()
			if part.Texts = texts[part.Table]; part.Texts == nil && t.opts.Texts != nil {
				part.Texts = t.opts.Texts(part.Table)
			}
			f.Partitions = append(f.Partitions, part)
			return nil
		})
		return err
	})
	if err := on.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	slices.SortFunc(f.Partitions, func(a, b Partition) int { return int(a.Lo - b.Lo) })
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
