package pgstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// What the store's way of publishing rests on is shown with raw statements on
// a table of their own, and so are the alternatives.
const (
	rawTable = `CREATE TABLE public.written (key bytea PRIMARY KEY, version bigint NOT NULL DEFAULT 1, data bytea NOT NULL) WITH (fillfactor = 85)`
	rawRows  = `INSERT INTO public.written (key, data) SELECT sha256(int8send(i)), $2 FROM generate_series(0, $1::bigint - 1) AS i`

	rawSave    = `UPDATE public.written SET data = $2, version = version + 1 WHERE key = $1`
	rawSaveAll = `UPDATE public.written AS t SET data = $2, version = version + 1 FROM unnest($1::bytea[]) AS u (key) WHERE t.key = u.key`

	rawSettings = `SELECT pg_catalog.set_config('enable_seqscan', 'off', true), pg_catalog.set_config('enable_hashjoin', 'off', true),
		pg_catalog.set_config('enable_mergejoin', 'off', true), pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true)`
	rawAsync       = `pg_catalog.set_config('synchronous_commit', 'off', true)`
	rawPayload     = `pg_catalog.pg_notify('written', $1)`
	rawNotify      = `SELECT ` + rawPayload
	rawAsyncNotify = `SELECT ` + rawAsync + `, ` + rawPayload

	rawFlush   = `SELECT pg_catalog.pg_logical_emit_message(true, '', '')`
	rawNoFlush = `SELECT pg_catalog.pg_logical_emit_message(false, '', '')`
)

func rawKey(i int) []byte {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return sum[:]
}

// flushed ends a pipeline that began with rawAsync: it commits what was
// written and notified, and answers when the log is on disk. BEGIN takes the
// transaction of the pipeline over as it is. It comes late because a statement
// that fails behind it leaves the connection in an aborted transaction.
func flushed(b *pgx.Batch) {
	b.Queue(`BEGIN`)
	b.Queue(`COMMIT`)
	b.Queue(rawFlush)
}

// A pipeline with a COMMIT in its middle has committed and notified what came
// before, whatever becomes of the rest, and the connection can be used again.
func TestAPipelineCommitsInItsMiddle(t *testing.T) {
	t.Parallel()
	const twice = `INSERT INTO public.late VALUES ($1), ($1)` // found out at the commit
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			p := publishPlace(t, dbtest.Postgres(t).Database(t), 1, 1, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
			p.exec(t, `CREATE TABLE public.late (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED)`)
			listener, others := dbtest.Conn(t, p.dsn), dbtest.Conn(t, p.dsn)
			if _, err := listener.Exec(t.Context(), `LISTEN written`); err != nil {
				t.Fatal(err)
			}
			for i, tt := range []struct {
				name, write, end, code string
				committed              bool
			}{
				{"nothing fails", `INSERT INTO public.late VALUES ($1)`, rawFlush, "", true},
				{"the write fails", `INSERT INTO public.late VALUES ($1 / 0)`, rawFlush, "22012", false},
				{"the commit fails", twice, rawFlush, "23505", false},
				{"what follows the commit fails", `INSERT INTO public.late VALUES ($1)`, `SELECT 1 / 0`, "22012", true},
			} {
				conn, err := p.pool.Acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				b := &pgx.Batch{}
				b.Queue(rawAsyncNotify, tt.name)
				b.Queue(tt.write, i)
				flushed(b)
				b.QueuedQueries[b.Len()-1].SQL = tt.end
				err = conn.SendBatch(t.Context(), b).Close()
				status := conn.Conn().PgConn().TxStatus()
				conn.Release()
				if got := codeOf(err); got != tt.code {
					t.Errorf("%s: error %v, want %q", tt.name, err, tt.code)
				}
				if status != 'I' {
					t.Errorf("%s: the connection is left in status %c", tt.name, status)
				}
				if got := query[bool](t, p, `SELECT EXISTS (SELECT FROM public.late WHERE n = $1)`, i); got != tt.committed {
					t.Errorf("%s: committed %v, want %v", tt.name, got, tt.committed)
				}
				if got := slices.Contains(heard(t, listener, others), tt.name); got != tt.committed {
					t.Errorf("%s: notified %v, want %v", tt.name, got, tt.committed)
				}
			}
			if n := p.pool.Stat().NewConnsCount(); n != 1 {
				t.Errorf("the pool has opened %d connections, want 1", n)
			}

			// With BEGIN at the start, the failure outlives the pipeline.
			conn := dbtest.Conn(t, p.dsn)
			b := &pgx.Batch{}
			b.Queue(`BEGIN`)
			b.Queue(`SELECT 1 / 0`)
			b.Queue(`COMMIT`)
			if err := conn.SendBatch(t.Context(), b).Close(); codeOf(err) != "22012" || conn.PgConn().TxStatus() != 'E' {
				t.Errorf("BEGIN at the start: %v, status %c, want 22012 and E", err, conn.PgConn().TxStatus())
			}
		})
	}
}

func codeOf(err error) string {
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// heard is what a listener has to hear of all that is committed, since it was
// last asked. It is others that ends it with a notification.
func heard(t testing.TB, listener, others *pgx.Conn) (payloads []string) {
	t.Helper()
	done := async(func() error {
		_, err := others.Exec(t.Context(), rawNotify, "now")
		return err
	})
	if err := answer(t, "a notification without a write", done); err != nil {
		t.Fatal(err)
	}
	for {
		note, err := listener.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if note.Payload == "now" {
			return payloads
		}
		payloads = append(payloads, note.Payload)
	}
}

// answer waits for a result.
func answer(t testing.TB, what string, result <-chan error) (err error) {
	t.Helper()
	dbtest.Eventually(t, what+" ends", func() bool {
		select {
		case err = <-result:
			return true
		default:
			return false
		}
	})
	return err
}

// While a synchronous standby is missing no durable commit ends. One that
// notifies then holds a lock of the whole cluster, and nobody's lease can be
// renewed; one that has committed and waits for its flush holds nothing.
func TestAStuckFlushDoesNotHoldUpHeartbeats(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.Config{Settings: map[string]string{"synchronous_standby_names": "missing"}})
	p := publishPlace(t, server.DSN("postgres"), 3, 4, func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["synchronous_commit"] = "local"
	})
	waiting := func(conn *pgx.Conn) string {
		return query[string](t, p, `SELECT coalesce(max(wait_event_type || ' ' || wait_event), '') FROM pg_stat_activity WHERE pid = $1`, conn.PgConn().PID())
	}
	const forStandby, forLock = "IPC SyncRep", "Lock object"

	// A server that has just started may not know yet that it wants a standby.
	first := dbtest.Conn(t, p.dsn)
	stuck := async(func() (err error) {
		for err == nil {
			_, err = first.Exec(t.Context(), rawSave, rawKey(2), payload)
		}
		return err
	})
	dbtest.Eventually(t, "the server wants its standby", func() bool { return waiting(first) == forStandby })
	p.exec(t, `SELECT pg_terminate_backend($1)`, first.PgConn().PID())
	_ = answer(t, "the first write", stuck)

	for _, tt := range []struct {
		name  string
		write func(b *pgx.Batch, key []byte)
		holds bool
		told  int // of two writes that wait
	}{
		{"in the writing transaction", func(b *pgx.Batch, key []byte) {
			b.Queue(rawNotify, "told")
			b.Queue(rawSave, key, payload)
		}, true, 0},
		{"after the commit", func(b *pgx.Batch, key []byte) {
			b.Queue(rawSave, key, payload)
		}, false, 0},
		{"before the flush", func(b *pgx.Batch, key []byte) {
			b.Queue(rawAsyncNotify, "told")
			b.Queue(rawSave, key, payload)
			flushed(b)
		}, false, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			listener := dbtest.Conn(t, p.dsn)
			if _, err := listener.Exec(t.Context(), `LISTEN written`); err != nil {
				t.Fatal(err)
			}
			writers := []*pgx.Conn{dbtest.Conn(t, p.dsn), dbtest.Conn(t, p.dsn)}
			var writes []<-chan error
			for i, conn := range writers {
				b := &pgx.Batch{}
				tt.write(b, rawKey(i))
				writes = append(writes, async(func() error { return conn.SendBatch(t.Context(), b).Close() }))
				want := forStandby
				if i > 0 && tt.holds {
					want = forLock
				}
				dbtest.Eventually(t, "the writer waits: "+want, func() bool { return waiting(conn) == want })
			}

			node := dbtest.Conn(t, p.dsn)
			if tt.holds {
				beat := async(func() error {
					_, err := node.Exec(t.Context(), rawNotify, "beat")
					return err
				})
				dbtest.Eventually(t, "the heartbeat waits for the lock", func() bool { return waiting(node) == forLock })
				if !query[bool](t, p, `SELECT $1::int = ANY (pg_blocking_pids($2))`, writers[0].PgConn().PID(), node.PgConn().PID()) {
					t.Error("the heartbeat does not wait for the writer")
				}
				pending(t, "the heartbeat", beat)

				// Others' commits wait too, but no longer than for any lock, and are undone then.
				other := dbtest.Conn(t, p.dsn)
				b := &pgx.Batch{}
				b.Queue(rawAsyncNotify+`, pg_catalog.set_config('lock_timeout', '1ms', true)`, "told")
				b.Queue(rawSave, rawKey(2), payload)
				flushed(b)
				err := other.SendBatch(t.Context(), b).Close()
				if status := other.PgConn().TxStatus(); codeOf(err) != "55P03" || status != 'I' {
					t.Errorf("a commit with a lock timeout: %v, status %c, want 55P03 and I", err, status)
				}
				defer func() {
					if err := answer(t, "the heartbeat", beat); err != nil {
						t.Error("heartbeat:", err)
					}
				}()
			} else if told := heard(t, listener, node); len(told) != tt.told {
				t.Errorf("listeners have heard %q before the heartbeat, want %d", told, tt.told)
			}
			for _, write := range writes {
				pending(t, "the write", write)
			}

			// Who is cancelled has committed, and only the standby does not know.
			for _, write := range writes {
				dbtest.Eventually(t, "the write ends", func() bool {
					p.exec(t, `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
					select {
					case err := <-write:
						if err != nil {
							t.Error("write:", err)
						}
						return true
					default:
						return false
					}
				})
			}
		})
	}
}

// Commits that did not wait for the disk are on it once a transactional message
// after them is committed. Without that they can be lost.
func TestATransactionalMessageMakesEarlierCommitsDurable(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"replica", "logical"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			server := dbtest.Start(t, dbtest.Config{Durable: true, Settings: map[string]string{
				"wal_level":        level,
				"wal_writer_delay": "10s", "autovacuum": "off", // nobody else flushes
			}})
			p := publishPlace(t, server.Database(t), 1, 2)
			// publish answers where the log stood after the commit.
			publish := func(message string) (committed string) {
				t.Helper()
				b := &pgx.Batch{}
				b.Queue(rawAsyncNotify, "told")
				b.Queue(rawSave, rawKey(0), payload)
				flushed(b)
				b.QueuedQueries[b.Len()-1].SQL = `SELECT pg_current_wal_insert_lsn()::text`
				b.QueuedQueries[b.Len()-1].QueryRow(func(row pgx.Row) error { return row.Scan(&committed) })
				b.Queue(message)
				if err := p.pool.SendBatch(context.Background(), b).Close(); err != nil {
					t.Fatal(err)
				}
				return committed
			}
			onDisk := func(lsn string) bool {
				return query[bool](t, p, `SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn`, lsn)
			}
			for range 50 {
				if lsn := publish(rawFlush); !onDisk(lsn) {
					t.Fatal("what was committed before the message is not on disk")
				}
			}
			for _, message := range []string{rawNoFlush, `SELECT 1`} {
				dbtest.Eventually(t, "not on disk after "+message, func() bool { return !onDisk(publish(message)) })
			}

			survives := func(message string) bool {
				t.Helper()
				version := `SELECT version FROM public.written`
				before := query[int64](t, p, version)
				publish(message)
				server.Kill()
				server.Restart(t)
				p.pool.Reset()
				return query[int64](t, p, version) == before+1
			}
			if !survives(rawFlush) {
				t.Error("what was committed before the message is lost")
			}
			dbtest.Eventually(t, "lost after "+rawNoFlush, func() bool { return !survives(rawNoFlush) })
		})
	}
}
