package db

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// connect makes the connections of a store beside a pool of one.
func connect(t *testing.T) *Conns {
	t.Helper()
	pool := dbtest.Pool(t, dbtest.Postgres(t).Database(t), func(c *pgxpool.Config) { c.MaxConns = 1 })
	c, err := New(t.Context(), pool, Options{Channel: "the channel", ReadTimeout: time.Minute, WriteTimeout: time.Minute, Unhurried: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Break(); c.Close() })
	return c
}

func TestAnErrorTellsWhatBecameOfItsTransaction(t *testing.T) {
	t.Parallel()
	server := func(severity, code string) error {
		return &pgconn.PgError{SeverityUnlocalized: severity, Code: code}
	}
	for name, c := range map[string]struct {
		err  error
		want Outcome
	}{
		"no answer":                           {io.ErrUnexpectedEOF, TxOpen},
		"a connection that is closed":         {pgconn.ErrConnClosed, TxOpen},
		"the server stops":                    {server("FATAL", "57P01"), TxOpen},
		"committed, but perhaps not for ever": {committed{server("ERROR", "57014")}, TxOpen},
		"cut off before the end":              {notDone{io.ErrUnexpectedEOF, true}, TxConflict},
		"idle in a transaction for too long":  {server("FATAL", "25P03"), TxConflict},
		"a deadlock":                          {server("ERROR", "40P01"), TxConflict},
		"a lock":                              {server("ERROR", "55P03"), TxLocked},
		"refused before it was sent":          {NotDone(io.ErrUnexpectedEOF), TxFailed},
		"the answer of a store":               {NotDone(session.ErrConflict), TxFailed},
		"a full disk":                         {server("ERROR", "53100"), TxFailed},
		"a key that exists":                   {server("ERROR", "23505"), TxItem},
		"no such table":                       {server("ERROR", "42P01"), TxPartition},
		"no partition of the parent":          {server("ERROR", "23514"), TxNoPartition},
		"a constraint": {&pgconn.PgError{SeverityUnlocalized: "ERROR", Code: "23514",
			ConstraintName: "c"}, TxItem},
	} {
		if got := OutcomeOf(c.err); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// The other nodes hear of what was committed, and of nothing else.
func TestATransactionNotifiesWhenItIsCommitted(t *testing.T) {
	t.Parallel()
	c := connect(t)
	app, _ := c.Roads()
	listener := dbtest.Conn(t, c.App.Config().ConnString())
	if _, err := listener.Exec(t.Context(), `LISTEN "the channel"`); err != nil {
		t.Fatal(err)
	}
	batch := func(payload, sql string) error {
		b := app.NewNotifyingBatch(t.Context(), payload)
		b.Queue(sql)
		err := app.Send(t.Context(), b)
		if b.Began.Clock.IsZero() || b.Began.Server.IsZero() {
			t.Errorf("%s began at %v", payload, b.Began)
		}
		return err
	}
	several := func(payload string, result error) error {
		return app.Begin(t.Context(), func(ctx context.Context, tx *Transaction) error {
			tx.Notify(payload)
			_, err := tx.Exec(ctx, `SELECT 1`)
			return errors.Join(err, result)
		})
	}
	if err := batch("a batch that fails", `SELECT 1/0`); OutcomeOf(err) != TxItem {
		t.Errorf("division by zero: %v", err)
	}
	if err := several("a transaction that fails", session.ErrConflict); OutcomeOf(err) != TxFailed || !IsRefusal(err) {
		t.Errorf("a transaction that is refused: %v", err)
	}
	if err := errors.Join(batch("one", `SELECT 1`), several("two", nil)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		ctx, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
		defer cancel()
		got, err := listener.WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got.Payload != want {
			t.Errorf("heard %q, want %q", got.Payload, want)
		}
	}
}

// An application that holds all of its connections does not stop the store.
func TestThePoolsStandInForEachOther(t *testing.T) {
	t.Parallel()
	c := connect(t)
	app, control := c.Roads()
	held, err := c.App.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one := func(r Road) error {
		return r.QueryRow(t.Context(), func(row pgx.Row) error { return row.Scan(nil) }, `SELECT 1`)
	}
	if err := errors.Join(one(app), one(control)); err != nil {
		t.Errorf("while the caller's pool is exhausted: %v", err)
	}
	held.Release()
	err = app.Do(t.Context(), func(ctx context.Context, _ *pgxpool.Conn) error {
		c.Break()
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, session.ErrClosed) {
		t.Errorf("a statement that is cut off: %v, want ErrClosed", err)
	}
}
