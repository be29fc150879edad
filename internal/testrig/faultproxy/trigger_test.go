package faultproxy_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
)

// A commit is the statement whose fate a client cannot see when it fails.
func TestTriggeredFaultsOfACommit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		fault     faultproxy.Fault
		committed bool
		hangs     bool
	}{
		{"request lost", faultproxy.CutBefore, false, false},
		{"answer lost", faultproxy.CutAfterwards, true, false},
		{"request lost in silence", faultproxy.HangBefore, false, true},
		{"answer lost in silence", faultproxy.HangAfterwards, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			direct := dbtest.Postgres(t).Database(t)
			proxy, dsn := dbtest.Proxy(t, direct)
			watcher := dbtest.Conn(t, direct)
			if _, err := watcher.Exec(t.Context(), "CREATE TABLE t (n int)"); err != nil {
				t.Fatal(err)
			}
			conn := dbtest.Conn(t, dsn)
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "INSERT INTO t VALUES (1)"); err != nil {
				t.Fatal(err)
			}

			done := proxy.Trigger(faultproxy.ToServer, faultproxy.Contains("COMMIT"), tt.fault)
			ctx, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
			defer cancel()
			if tt.hangs {
				go func() { <-done; cancel() }()
			}
			err = tx.Commit(ctx)
			if err == nil {
				t.Fatal("the commit was acknowledged")
			}
			if hung := ctx.Err() != nil; hung != tt.hangs {
				t.Errorf("the commit ended with %v; waited for the context: %v, want %v", err, hung, tt.hangs)
			}
			<-done

			if !tt.committed {
				proxy.CutAll() // else the server keeps the transaction open, and the lock on the table
			}
			dbtest.Eventually(t, "the row is there only if the commit arrived", func() bool {
				var n int
				if err := watcher.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&n); err != nil {
					t.Fatal(err)
				}
				return (n == 1) == tt.committed
			})

			if err := dbtest.Conn(t, dsn).Ping(t.Context()); err != nil {
				t.Errorf("the next connection: %v", err)
			}
		})
	}
}

func TestTriggerOnAnAnswer(t *testing.T) {
	t.Parallel()
	proxy, dsn := dbtest.Proxy(t, dbtest.Postgres(t).Database(t))
	conn := dbtest.Conn(t, dsn)
	other := dbtest.Conn(t, dsn)
	done := proxy.Trigger(faultproxy.ToClient, faultproxy.Contains("marker-47"), faultproxy.CutBefore)
	query := func(c *pgx.Conn, what string) error {
		var text string
		return c.QueryRow(t.Context(), "SELECT 'marker-'||$1::text", what).Scan(&text)
	}
	if err := query(conn, "46"); err != nil {
		t.Fatal(err)
	}
	if err := query(conn, "47"); err == nil {
		t.Fatal("the answer arrived")
	}
	<-done
	if err := query(other, "47"); err != nil {
		t.Errorf("the trigger went off twice: %v", err)
	}
}
