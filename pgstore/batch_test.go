package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/session"
)

// batched is a kind of write that goes through a lane.
type batched struct {
	kind string
	lane func(*Store) *batch.Lane
	do   func(ctx context.Context, s *Store, rec session.Record) error
}

func batchedWrites() []batched {
	return []batched{
		{"create", func(s *Store) *batch.Lane { return s.writes.Creates }, func(ctx context.Context, s *Store, rec session.Record) error {
			rec.Key.Hash[0] ^= 0xff // of a session that is not there yet
			_, err := s.Create(ctx, rec)
			return err
		}},
		{"save", func(s *Store) *batch.Lane { return s.writes.Saves }, func(ctx context.Context, s *Store, rec session.Record) error {
			_, err := s.Save(ctx, rec)
			return err
		}},
		{"touch", func(s *Store) *batch.Lane { return s.writes.Touches }, func(ctx context.Context, s *Store, rec session.Record) error {
			_, err := s.Touch(ctx, rec.Key, rec.Expires.Add(time.Hour))
			return err
		}},
		{"destroy", func(s *Store) *batch.Lane { return s.writes.Destroys }, func(ctx context.Context, s *Store, rec session.Record) error {
			n, err := s.Destroy(ctx, rec.Key)
			if err == nil && n != 1 {
				err = fmt.Errorf("%d were live", n)
			}
			return err
		}},
	}
}

// createN creates sessions without users.
func createN(t testing.TB, s *Store, n int) []session.Record {
	t.Helper()
	recs := make([]session.Record, n)
	for i := range recs {
		recs[i] = create(t, s, "")
	}
	return recs
}

// each returns the write w to each of recs.
func (w batched) each(s *Store, recs []session.Record) []func() error {
	ops := make([]func() error, len(recs))
	for i, rec := range recs {
		ops[i] = func() error { return w.do(context.Background(), s, rec) }
	}
	return ops
}

func TestConcurrentWritesShareAFlush(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites() {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			s := migrated(t).node(t, Options{}, 2)
			recs := createN(t, s, 101)
			before := s.Stats().Flushes
			ops := w.each(s, recs)
			for _, err := range results(oneBatch(t, w.lane(s), ops[0], ops[1:]...)) {
				wantErr(t, w.kind, err, nil)
			}
			if n := s.Stats().Flushes - before; n != 2 {
				t.Errorf("%d flushes for one write and 100 that came meanwhile, want 2", n)
			}
		})
	}
}

// Each write here waits for its answer before the next, so a timer or a wish
// for company would never let it go, or pay for it with more flushes.
func TestALoneWriteGoesAtOnce(t *testing.T) {
	t.Parallel()
	s := migrated(t).node(t, Options{}, 2)
	for _, w := range batchedWrites() {
		recs := createN(t, s, 5)
		before := s.Stats().Flushes
		for _, rec := range recs {
			wantErr(t, w.kind, w.do(t.Context(), s, rec), nil)
		}
		if n := s.Stats().Flushes - before; n != 5 {
			t.Errorf("%d flushes for 5 lone writes of kind %s", n, w.kind)
		}
	}
}

func TestABatchHasNoMoreItemsThanAllowed(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites() {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			s := migrated(t).node(t, Options{BatchItems: 3}, 2)
			recs := createN(t, s, 8)
			before := s.Stats().Flushes
			ops := w.each(s, recs)
			for _, err := range results(oneBatch(t, w.lane(s), ops[0], ops[1:]...)) {
				wantErr(t, w.kind, err, nil)
			}
			if n := s.Stats().Flushes - before; n != 4 {
				t.Errorf("%d flushes for 1 and 7 writes, want 4 with Options.BatchItems = 3", n)
			}
		})
	}
}

func TestABatchHasNoMoreBytesThanAllowed(t *testing.T) {
	t.Parallel()
	s := migrated(t).node(t, Options{BatchBytes: 10_000}, 2)
	recs := createN(t, s, 12)
	sizes := []int{0, 3000, 3000, 3000, 3000, 50_000, 3000, 3000, 3000, 3000, 3000, 3000}
	for i := range recs {
		recs[i].Data = bytes.Repeat([]byte("x"), sizes[i])
	}
	before := s.Stats().Flushes
	ops := batchedWrites()[1].each(s, recs)
	for i, err := range results(oneBatch(t, s.writes.Saves, ops[0], ops[1:]...)) {
		wantErr(t, "save", err, nil)
		if got, err := s.Get(t.Context(), recs[i+1].Key); err != nil || len(got.Data) != sizes[i+1] {
			t.Errorf("%d bytes, %v; want %d", len(got.Data), err, sizes[i+1])
		}
	}
	// The first; three of 3000; one; the one that is too large for any batch; three and three.
	if n := s.Stats().Flushes - before; n != 6 {
		t.Errorf("%d flushes, want 6 with Options.BatchBytes = 10,000", n)
	}
}

// Of two saves of the same version the first one wins, also when there would
// have been room for the later, smaller one in an earlier batch.
func TestWritesToOneKeyKeepTheirOrder(t *testing.T) {
	t.Parallel()
	s := migrated(t).node(t, Options{BatchBytes: 10_000}, 2)
	recs := createN(t, s, 3)
	lone, other, twice := recs[0], recs[1], recs[2]
	before := s.Stats().Flushes
	got := results(oneBatch(t, s.writes.Saves, saving(s, lone, ""),
		saving(s, other, string(make([]byte, 6000))),
		saving(s, twice, string(make([]byte, 6000))),
		saving(s, twice, "second"),
	))
	wantErr(t, "save of another key", got[0], nil)
	wantErr(t, "first save", got[1], nil)
	wantErr(t, "second save of the same version", got[2], session.ErrConflict)
	if n := s.Stats().Flushes - before; n < 4 {
		t.Errorf("%d flushes: two writes to one key shared one", n)
	}
}

// reject makes the table refuse rows of a key, in every way of writing.
func (p place) reject(t testing.TB, key session.Key) {
	t.Helper()
	p.exec(t, fmt.Sprintf(`
CREATE FUNCTION %[1]s.reject() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.key = '\x%[2]x'::bytea THEN RAISE EXCEPTION 'rejected'; END IF;
  RETURN NEW;
END $$`, p.schema, key.Hash[:]))
	p.exec(t, fmt.Sprintf(`CREATE TRIGGER reject BEFORE INSERT OR UPDATE ON %[1]s.sessions FOR EACH ROW EXECUTE FUNCTION %[1]s.reject()`, p.schema))
}

func TestOneBadItemFailsAlone(t *testing.T) {
	t.Parallel()
	for _, w := range batchedWrites() {
		t.Run(w.kind, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s := p.node(t, Options{}, 2)
			recs := createN(t, s, 33)
			bad := 17
			key := recs[bad].Key
			if w.kind == "create" {
				key.Hash[0] ^= 0xff
			}
			p.reject(t, key)
			ops := w.each(s, recs)
			for i, err := range results(oneBatch(t, w.lane(s), ops[0], ops[1:]...)) {
				if i+1 != bad {
					wantErr(t, "a good item", err, nil)
					continue
				}
				var pgErr *pgconn.PgError
				if !errors.As(err, &pgErr) || pgErr.Code != "P0001" || errors.Is(err, session.ErrUnknown) {
					t.Errorf("the bad item: %v, want what the trigger raised", err)
				}
			}
		})
	}
}

func TestACheckConstraintFailsOneItemAlone(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{}, 2)
	p.exec(t, `ALTER TABLE `+p.schema+`.sessions ADD CONSTRAINT no_poison CHECK (data <> '\x706f69736f6e')`)
	recs := createN(t, s, 4)
	got := results(oneBatch(t, s.writes.Saves, saving(s, recs[0], ""),
		saving(s, recs[1], "good"), saving(s, recs[2], "poison"), saving(s, recs[3], "good")))
	wantErr(t, "a good item", got[0], nil)
	wantErr(t, "a good item", got[2], nil)
	var pgErr *pgconn.PgError
	if !errors.As(got[1], &pgErr) || pgErr.ConstraintName != "no_poison" || errors.Is(got[1], session.ErrNoPartition) {
		t.Errorf("the bad item: %v, want a violation of the constraint", got[1])
	}
	if r := rowOf(t, p, recs[2].Key); r.Version != recs[2].Version || !r.Live {
		t.Errorf("the bad item left %+v", r)
	}
}

func TestNodesThatWriteTheSameKeysDoNotDeadlock(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	dsn := server.Database(t)
	// Lock timeouts must not come before a deadlock is noticed.
	db := place{pool: dbtest.Pool(t, dsn, nil)}
	name := query[string](t, db, `SELECT current_database()`)
	db.exec(t, `ALTER DATABASE `+name+` SET deadlock_timeout = '5ms'`)
	db.pool.Close()
	p := migratedAt(t, dsn, "sojourn", migrations.Settings{})
	p.pool.Close()
	var pools []*pgxpool.Pool
	nodes := make([]*Store, 2)
	for i := range nodes {
		nodes[i] = p.node(t, Options{}, 8)
		pools = append(pools, nodes[i].pool)
	}
	recs := createN(t, nodes[0], 24)
	done := make(chan error)
	const writers, rounds = 64, 8
	for w := range writers {
		go func() {
			s := nodes[w%2]
			var failed error
			for r := range rounds {
				for i := range recs {
					if w%2 == 0 {
						i = len(recs) - 1 - i
					}
					var err error
					rec := recs[(i+w*5)%len(recs)]
					if r%4 == 3 {
						_, err = s.Touch(t.Context(), rec.Key, rec.Expires.Add(time.Duration(r*writers+w)*time.Second))
					} else {
						_, err = s.Save(t.Context(), rec)
					}
					if err != nil && !errors.Is(err, session.ErrConflict) {
						failed = errors.Join(failed, err)
					}
				}
			}
			done <- failed
		}()
	}
	for range writers {
		wantErr(t, "concurrent writes", <-done, nil)
	}
	// A server process reports its deadlocks at the latest when it ends.
	for i, s := range nodes {
		closeStore(t, s)
		pools[i].Close()
	}
	side := place{pool: dbtest.Pool(t, server.DSN("postgres"), nil)}
	dbtest.Eventually(t, "the server processes have ended", func() bool {
		return query[int](t, side, `SELECT numbackends FROM pg_stat_database WHERE datname = $1`, name) == 0
	})
	if n := query[int](t, side, `SELECT deadlocks FROM pg_stat_database WHERE datname = $1`, name); n != 0 {
		t.Errorf("%d deadlocks", n)
	}
}
