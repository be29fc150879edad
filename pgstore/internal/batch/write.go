package batch

import (
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// write is one flush of saves, touches or destroys, and what came of it.
type write struct {
	w     *Writer
	mode  flushMode
	spans []span
	batch *db.Batch

	was, now map[*Op]State // as found under the lock, and as written
}

// input is a column of what is written.
type input struct {
	all func([]*Op) any // as an array
	one func(*Op) any
}

func inputOf[T any](of func(*Op) T) input {
	return input{
		all: func(ops []*Op) any { return column(ops, of) },
		one: func(o *Op) any { return of(o) },
	}
}

// newWrite begins a batch on the rows of ops. Other nodes are notified if notifies.
func (w *Writer) newWrite(ctx context.Context, ops []*Op, mode flushMode, notifies bool) *write {
	f := &write{w: w, mode: mode, spans: w.spans(ops, mode), was: map[*Op]State{}, now: map[*Op]State{}}
	lone := mode.patience == optimistic && !slices.ContainsFunc(f.spans, func(sp span) bool { return len(sp.ops) > 1 })
	switch {
	case !notifies:
		f.batch = mode.road.NewAsyncBatch(ctx, lone)
	case lone:
		f.batch = mode.road.NewLoneNotifyingBatch(ctx, w.payloads(ops)...)
	default:
		f.batch = mode.road.NewNotifyingBatch(ctx, w.payloads(ops)...)
	}
	return f
}

// payloads are the messages that the keys of ops were written.
func (w *Writer) payloads(ops []*Op) []string {
	keys := make([]session.Key, len(ops))
	for i, o := range ops {
		keys[i] = o.Key
	}
	return w.opts.Payloads(keys...)
}

// held reports whether o, which was not written, is to be tried again with more
// patience instead of being answered with a refusal.
func (f *write) held(o *Op) bool {
	_, there := f.was[o]
	return f.mode.patience == optimistic || f.mode.patience == skipLocked && !there
}

// send writes with one of the statements of each partition.
func (f *write) send(ctx context.Context, texts func(*Texts) Statements, inputs ...input) error {
	for _, sp := range f.spans {
		f.queue(sp, texts(sp.q), inputs)
	}
	before := f.w.opts.Now()
	err := f.mode.road.Send(ctx, f.batch)
	if err == nil {
		f.w.Flushes.Add(1)
		f.w.opts.Compare(before, f.batch.Began.Clock)
	}
	return err
}

func (f *write) queue(sp span, texts Statements, inputs []input) {
	if f.mode.patience == optimistic && len(sp.ops) == 1 {
		o := sp.ops[0]
		args := []any{o.Key.Hash[:], o.Key.Bucket}
		for _, in := range inputs {
			args = append(args, in.one(o))
		}
		f.collect(f.batch.Queue(texts.Lone, args...), sp)
		return
	}
	args := []any{hashes(sp.ops), buckets(sp.ops)}
	if f.mode.patience == waitLocked {
		f.batch.Queue(sp.q.LockWait, args...)
	}
	for _, in := range inputs {
		args = append(args, in.all(sp.ops))
	}
	sql := texts.SkipLocked
	if f.mode.patience == optimistic {
		sql = texts.Optimistic
	}
	f.collect(f.batch.Queue(sql, args...), sp)
}

func (f *write) collect(queued *pgx.QueuedQuery, sp span) {
	queued.Query(func(rows pgx.Rows) error {
		var n int64
		var written bool
		var r State
		var user zeronull.Text
		var next []byte
		var nextBucket zeronull.Int4
		into := []any{&written, &n, &r.Version, &user, &r.Expires, &r.Deadline, &r.Created, &r.Live, &next, &nextBucket, &r.InGrace}
		_, err := pgx.ForEachRow(rows, into, func() error {
			o := sp.ops[n-1]
			r.Expires, r.Deadline, r.Created = r.Expires.UTC(), r.Deadline.UTC(), r.Created.UTC()
			r.User, r.Next = string(user), db.Successor(next, nextBucket)
			if written {
				f.now[o] = r
			} else {
				f.was[o] = r
			}
			return nil
		})
		return err
	})
}

// span is the part of a batch that one statement can write.
type span struct {
	q   *Texts
	ops []*Op
}

// spans cuts ops, sorted by key, by partition. What no partition takes goes
// through the parent.
func (w *Writer) spans(ops []*Op, mode flushMode) []span {
	if mode.parent {
		return []span{{w.parent, ops}}
	}
	var out []span
	for len(ops) > 0 {
		q, hi := w.opts.Find(ops[0].Key.Bucket)
		n := 1
		for n < len(ops) && q != nil && int64(ops[n].Key.Bucket) < hi {
			n++
		}
		for n < len(ops) && q == nil { // as many as lie in the same gap
			if next, _ := w.opts.Find(ops[n].Key.Bucket); next != nil {
				break
			}
			n++
		}
		out = append(out, span{cmp.Or(q, w.parent), ops[:n]})
		ops = ops[n:]
	}
	return out
}

// hashes, buckets and column make the arrays of a batch.
func hashes(ops []*Op) [][]byte {
	out := make([][]byte, len(ops))
	for i, o := range ops {
		out[i] = o.Key.Hash[:]
	}
	return out
}

func buckets(ops []*Op) []int32 {
	out := make([]int32, len(ops))
	for i, o := range ops {
		out[i] = o.Key.Bucket
	}
	return out
}

func column[T any](ops []*Op, of func(*Op) T) []T {
	out := make([]T, len(ops))
	for i, o := range ops {
		out[i] = of(o)
	}
	return out
}
