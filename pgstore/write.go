package pgstore

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// write is one flush of saves, touches or destroys, and what came of it.
type write struct {
	s     *Store
	road  db.Road
	mode  flushMode
	spans []span
	batch *db.Batch

	was, now map[*op]state // as found under the lock, and as written
}

// input is a column of what is written.
type input struct {
	all func([]*op) any // as an array
	one func(*op) any
}

func inputOf[T any](of func(*op) T) input {
	return input{
		all: func(ops []*op) any { return column(ops, of) },
		one: func(o *op) any { return of(o) },
	}
}

// state is a row as a batch statement reports it.
type state struct {
	version                    int64
	user                       string
	expires, deadline, created time.Time
	live, inGrace              bool
	next                       session.Key // the successor; zero if it was not renewed
}

// newWrite begins a batch on the rows of ops. Other nodes are notified if notifies.
func (s *Store) newWrite(ctx context.Context, ops []*op, mode flushMode, notifies bool) *write {
	w := &write{s: s, road: mode.road, mode: mode, spans: s.spans(ops, mode), was: map[*op]state{}, now: map[*op]state{}}
	lone := false
	if mode.patience == optimistic {
		lone = !slices.ContainsFunc(w.spans, func(sp span) bool { return len(sp.ops) > 1 })
	}
	switch {
	case !notifies:
		w.batch = w.road.NewAsyncBatch(ctx, lone)
	case lone:
		w.batch = w.road.NewLoneNotifyingBatch(ctx, s.notifyKeys(ops)...)
	default:
		w.batch = w.road.NewNotifyingBatch(ctx, s.notifyKeys(ops)...)
	}
	return w
}

// held reports whether o, which was not written, is to be tried again with more
// patience instead of being answered with a refusal.
func (w *write) held(o *op) bool {
	_, there := w.was[o]
	return w.mode.patience == optimistic || w.mode.patience == skipLocked && !there
}

// send writes with one of the statements of each partition.
func (w *write) send(ctx context.Context, texts func(*texts) batchTexts, inputs ...input) error {
	for _, sp := range w.spans {
		w.queue(sp, texts(sp.q), inputs)
	}
	before := w.s.Now()
	err := w.road.Send(ctx, w.batch)
	if err == nil {
		w.s.stats.flushes.Add(1)
		w.s.table.Compare(before, w.batch.Began.Clock)
	}
	return err
}

func (w *write) queue(sp span, texts batchTexts, inputs []input) {
	if w.mode.patience == optimistic && len(sp.ops) == 1 {
		o := sp.ops[0]
		args := []any{o.key.Hash[:], o.key.Bucket}
		for _, in := range inputs {
			args = append(args, in.one(o))
		}
		w.collect(w.batch.Queue(texts.lone, args...), sp)
		return
	}
	args := []any{hashes(sp.ops), buckets(sp.ops)}
	if w.mode.patience == waitLocked {
		w.batch.Queue(sp.q.lockWait, args...)
	}
	for _, in := range inputs {
		args = append(args, in.all(sp.ops))
	}
	sql := texts.skipLocked
	if w.mode.patience == optimistic {
		sql = texts.optimistic
	}
	w.collect(w.batch.Queue(sql, args...), sp)
}

func (w *write) collect(queued *pgx.QueuedQuery, sp span) {
	queued.Query(func(rows pgx.Rows) error {
		var n int64
		var written bool
		var r state
		var user zeronull.Text
		var next []byte
		var nextBucket zeronull.Int4
		into := []any{&written, &n, &r.version, &user, &r.expires, &r.deadline, &r.created, &r.live, &next, &nextBucket, &r.inGrace}
		_, err := pgx.ForEachRow(rows, into, func() error {
			o := sp.ops[n-1]
			r.expires, r.deadline, r.created = r.expires.UTC(), r.deadline.UTC(), r.created.UTC()
			r.user, r.next = string(user), successor(next, nextBucket)
			if written {
				w.now[o] = r
			} else {
				w.was[o] = r
			}
			return nil
		})
		return err
	})
}

// successor is the key that a renewed row names, or the zero key.
func successor(hash []byte, bucket zeronull.Int4) session.Key {
	var k session.Key
	if len(hash) == len(k.Hash) {
		k.Hash, k.Bucket = [32]byte(hash), int32(bucket)
	}
	return k
}

// span is the sp of a batch that one statement can write.
type span struct {
	q   *texts
	ops []*op
}

// spans cuts ops, sorted by key, by partition.
func (s *Store) spans(ops []*op, mode flushMode) []span {
	if mode.parent {
		return []span{{s.onParent, ops}}
	}
	f := s.table.Known.Load()
	var out []span
	for start := 0; start < len(ops); {
		part := f.Find(ops[start].key.Bucket)
		if part == nil { // as many as lie in the same gap
			end := start + 1
			for end < len(ops) && f.Find(ops[end].key.Bucket) == nil {
				end++
			}
			out = append(out, span{s.onParent, ops[start:end]})
			start = end
			continue
		}
		end := start + 1
		for end < len(ops) && part.Takes(ops[end].key.Bucket) {
			end++
		}
		out = append(out, span{textsOf(part), ops[start:end]})
		start = end
	}
	return out
}

// hashes, buckets and column make the arrays of a batch.
func hashes(ops []*op) [][]byte {
	out := make([][]byte, len(ops))
	for i, o := range ops {
		out[i] = o.key.Hash[:]
	}
	return out
}

func buckets(ops []*op) []int32 {
	out := make([]int32, len(ops))
	for i, o := range ops {
		out[i] = o.key.Bucket
	}
	return out
}

func column[T any](ops []*op, of func(*op) T) []T {
	out := make([]T, len(ops))
	for i, o := range ops {
		out[i] = of(o)
	}
	return out
}

// nullTime is NULL for the zero time.
func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// nullText is NULL for the empty text.
func nullText(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// notNull is data as the table stores it: an empty value is not NULL.
func notNull(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}
