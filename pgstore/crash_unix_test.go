//go:build unix

package pgstore

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// undurable makes the connections of a node hold back what makes its writes
// durable, and all that it sends after that.
func undurable(c *pgxpool.Config) {
	c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // so that the text is sent each time
	dial := c.ConnConfig.DialFunc
	c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &undurableConn{Conn: conn}, err
	}
}

type undurableConn struct {
	net.Conn
	held bool
}

func (c *undurableConn) Write(b []byte) (int, error) {
	if c.held {
		return len(b), nil
	}
	send := b
	if text := bytes.Index(b, []byte(db.MakeDurable)); text >= 0 {
		c.held = true
		send = b[:bytes.LastIndexByte(b[:text], 'P')] // where its message begins
	}
	if _, err := c.Conn.Write(send); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Others can read a version before it is durable. Who has read one that a crash
// took back does not overwrite what was acknowledged after the crash.
func TestAVersionThatACrashTookBackIsNotGivenAgain(t *testing.T) {
	t.Parallel()
	server, p := own(t, dbtest.Config{Settings: map[string]string{"autovacuum": "off", "bgwriter_lru_maxpages": "0"}})
	a, b := p.node(t, Options{WriteTimeout: time.Minute}, 4, undurable), p.node(t, Options{}, 4)
	walWriter := query[int](t, p, `SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'`)
	if err := syscall.Kill(walWriter, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	endWalWriter := sync.OnceFunc(func() { _ = syscall.Kill(walWriter, syscall.SIGKILL) }) // it may be gone
	t.Cleanup(endWalWriter)

	type write func(ctx context.Context, s *Store, rec session.Record) (session.Record, error)
	save := func(ctx context.Context, s *Store, rec session.Record) (session.Record, error) {
		return s.Save(ctx, rec)
	}
	put := func(ctx context.Context, s *Store, rec session.Record) (session.Record, error) {
		return s.Put(ctx, rec)
	}
	lives := []*struct {
		name      string
		lose      write
		keep      write
		was, lost session.Record
	}{
		{name: "a save, then a save", lose: save, keep: save},
		{name: "a put, then a save", lose: put, keep: save},
		{name: "a put, then a put", lose: put, keep: put},
	}
	for _, l := range lives {
		l.was = create(t, b, "ada")
	}
	var writes []<-chan error
	for _, l := range lives {
		rec := l.was
		rec.Data = []byte("lost")
		writes = append(writes, async(func() error { _, err := l.lose(context.Background(), a, rec); return err }))
		dbtest.Eventually(t, l.name+": the other node reads what is not durable", func() bool {
			l.lost = mustGet(t, b, l.was.Key)
			return string(l.lost.Data) == "lost"
		})
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Close(late); !errors.Is(err, context.Canceled) { // so that nothing is tried again
		t.Errorf("Close: %v", err)
	}
	for _, err := range results(writes) {
		wantErr(t, "a write whose answer never came", err, session.ErrUnknown)
	}
	server.Kill()
	endWalWriter()
	server.Restart(t)
	dbtest.Eventually(t, "the server is back", func() bool { return p.pool.Ping(t.Context()) == nil })

	for _, l := range lives {
		if got := mustGet(t, b, l.was.Key); got.Version != l.was.Version {
			t.Fatalf("%s: the crash took nothing back: %+v", l.name, got)
		}
		kept := l.was
		kept.Data = []byte("kept")
		if _, err := l.keep(t.Context(), b, kept); err != nil {
			t.Fatal(err)
		}
		l.lost.Data = []byte("overwritten")
		_, err := b.Save(t.Context(), l.lost)
		wantErr(t, l.name+": a save of the version that was lost", err, session.ErrConflict)
		if got := mustGet(t, b, l.was.Key); string(got.Data) != "kept" {
			t.Errorf("%s: what was acknowledged after the crash is %q", l.name, got.Data)
		}
	}
}
