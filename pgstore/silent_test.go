package pgstore

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
	"github.com/sojourn-go/sojourn/session"
)

// Whoever has sent a part of a batch and then freezes holds no lock for long.
func TestAClientThatFallsSilentInABatchLosesItsLocks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		holds func(s *Store, rec session.Record) string
		write func(ctx context.Context, s *Store, rec session.Record) error
	}{
		"a stripe": {
			func(s *Store, rec session.Record) string {
				return fmt.Sprintf(`SELECT pg_advisory_xact_lock_shared(%d, %d)`, s.lockClass, batch.StripeOf(rec.User))
			},
			func(ctx context.Context, s *Store, rec session.Record) error {
				_, _, err := s.CreateLimited(ctx, fresh(s, rec.User), session.UserLimit{Max: 3, Evict: true})
				return err
			},
		},
		"a row": {
			func(s *Store, rec session.Record) string {
				return `SELECT FROM ` + s.table.Known.Load().Find(rec.Key.Bucket).Table + ` FOR UPDATE`
			},
			func(ctx context.Context, s *Store, rec session.Record) error {
				_, err := s.Touch(ctx, rec.Key, s.Now())
				return err
			},
		},
		"a row by the parent": {
			func(s *Store, rec session.Record) string { return `SELECT FROM ` + s.names.Sessions + ` FOR UPDATE` },
			func(ctx context.Context, s *Store, rec session.Record) error {
				_, err := s.DestroyUser(ctx, rec.User)
				return err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := migrated(t)
			s := p.open(t, quiet)
			rec := create(t, s, "ada")
			conn := dbtest.Conn(t, p.dsn).PgConn()
			pipeline := conn.StartPipeline(t.Context())
			for _, sql := range []string{`BEGIN`, c.holds(s, rec)} {
				pipeline.SendQueryParams(sql, nil, nil, nil, nil)
			}
			pipeline.SendFlushRequest()
			if err := pipeline.Flush(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				results, err := pipeline.GetResults()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := results.(*pgconn.ResultReader).Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.write(within(t), s, rec); err != nil {
				t.Errorf("a write that needs the lock: %v", err)
			}
			_ = pipeline.Close() // the server has ended it
		})
	}
}

// A server that has no limit for a transaction finds out that the host is gone.
func TestATransactionEndsWhenItsHostIsGone(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	ctx, cancel := s.conns.Within(t.Context(), "the write")
	defer cancel()
	b := s.control.NewBatch(ctx)
	var idle, interval, whole string
	b.Queue(`SELECT current_setting('tcp_keepalives_idle'), current_setting('tcp_keepalives_interval'), COALESCE(current_setting('transaction_timeout', true), '')`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&idle, &interval, &whole) })
	if err := s.control.Send(ctx, b); err != nil {
		t.Fatal(err)
	}
	if whole != "8s" && (whole != "" || idle != "1" || interval != "1") {
		t.Errorf("a transaction may last %q; the server asks after %s s, every %s s", whole, idle, interval)
	}
}
