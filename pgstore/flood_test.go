package pgstore

import (
	"context"
	"encoding/base64"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore/internal/partition"
	"github.com/sojourn-go/sojourn/session"
)

// counter counts what is sent to the server.
type counter struct{ n *atomic.Int64 }

func (c counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// Ten thousand guesses cost nothing but one lookup for each that some partition
// could hold, and for the others together a look at the partitions ten times a
// second. They leave no trace in the server's log.
func TestAFloodOfForgedIDs(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.Config{})
	p := migratedAt(t, server.Database(t), "sojourn", migrations.Settings{})
	var asked atomic.Int64
	s := p.node(t, Options{}, 8, func(c *pgxpool.Config) { c.ConnConfig.Tracer = counter{&asked} })
	real := session.NewID(s.Now().Add(time.Hour))
	if _, err := s.Create(t.Context(), session.Record{Key: real.Key(), Deadline: s.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}

	forged := func(hours time.Duration) session.ID { return session.NewID(s.Now().Add(hours * time.Hour)) }
	text := real.Secret()
	var texts []string
	for i := range 2000 {
		texts = append(texts,
			text[:i%48],                      // cut short
			text+strings.Repeat("A", 1+i%3),  // too long
			text[:i%47]+"'"+text[i%47+1:],    // of another alphabet
			text[:i%47]+"\x00"+text[i%47+1:], // with a NUL
		)
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	texts = append(texts, "", string(raw), base64.StdEncoding.EncodeToString(raw[:33]), strings.Repeat("=", 48), strings.Repeat("\xff", 48))

	log, before := server.Log(), asked.Load()
	for _, text := range texts {
		id, err := session.ParseID(text)
		wantErr(t, "ParseID", err, session.ErrInvalidID)
		if !id.IsZero() {
			t.Fatal("ParseID returned an ID")
		}
	}
	for i := range 2000 { // further from now than anything can bring it
		key := forged(time.Duration([]int{-100_000 - i, 100_000 + i}[i%2])).Key()
		_, err := s.Get(t.Context(), key)
		wantErr(t, "Get of an impossible key", err, session.ErrNotFound)
		_, err = s.Save(t.Context(), session.Record{Key: key, Version: 1})
		wantErr(t, "Save of an impossible key", err, session.ErrNotFound)
		_, err = s.Touch(t.Context(), key, s.Now())
		wantErr(t, "Touch of an impossible key", err, session.ErrNotFound)
		_, err = s.Renew(t.Context(), key, fresh(s, ""), 0)
		wantErr(t, "Renew of an impossible key", err, session.ErrNotFound)
		n, err := s.Destroy(t.Context(), key)
		wantErr(t, "Destroy of an impossible key", err, nil)
		if n != 0 {
			t.Errorf("Destroy ended %d", n)
		}
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("what cannot be an ID was asked for %d times", n)
	}

	start := time.Now()
	concurrently(t, 64, 20, func(i int) { // in no partition
		id, err := session.ParseID(forged(time.Duration([]int{-10_000 - i, 10_000 + i}[i%2])).Secret())
		wantErr(t, "ParseID", err, nil)
		_, err = s.Get(t.Context(), id.Key())
		wantErr(t, "Get of an unknown key", err, session.ErrNotFound)
	})
	if n, most := asked.Load()-before, int64(time.Since(start)/partition.AskedPause)+2; n == 0 || n > most {
		t.Errorf("the partitions were read %d times; want at most %d", n, most)
	}
	before = asked.Load()

	const plausible = 2000
	concurrently(t, 8, plausible/8, func(i int) {
		id, err := session.ParseID(forged(1 + time.Duration(i)%700).Secret())
		wantErr(t, "ParseID", err, nil)
		_, err = s.Get(t.Context(), id.Key())
		wantErr(t, "Get of an unknown key", err, session.ErrNotFound)
	})
	if n := asked.Load() - before; n != plausible {
		t.Errorf("%d lookups for %d plausible IDs", n, plausible)
	}
	if got := server.Log(); got != log {
		t.Errorf("the server's log grew: %s", got[len(log):])
	}
	if _, err := s.Get(t.Context(), real.Key()); err != nil {
		t.Errorf("Get of the real one: %v", err)
	}
}
