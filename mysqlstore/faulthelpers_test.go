package mysqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/session"
)

// brittle is a store whose connections go through a proxy, and a way around it.
type brittle struct {
	*Store
	maker *Store // prepares what is written
	proxy *faultproxy.Proxy
	side  *sql.DB // has selected no database
}

func newBrittle(t testing.TB, srv *dbtest.MySQLServer, opts Options) brittle {
	t.Helper()
	p := migrated(t, srv)
	if err := p.db.Close(); err != nil { // they would be taken for the store's
		t.Fatal(err)
	}
	proxy, dsn := dbtest.MySQLProxy(t, p.dsn)
	opts.PruneInterval = -1
	b := brittle{proxy: proxy, side: dbtest.DB(t, srv.DSN(""), nil)}
	b.Store = openStore(t, place{dsn: dsn, db: pool40(t, dsn, nil)}, opts)
	b.maker = b.Store
	return b
}

func (b brittle) table() string { return "`" + b.database + "`.sojourn_sessions" }

// quiesce waits until the server has dealt with all that connections which were
// cut had sent.
func (b brittle) quiesce(t testing.TB) {
	t.Helper()
	dbtest.Eventually(t, "the server is done with lost connections", func() bool {
		return len(dbtest.Processes(t, b.side, b.database)) <= b.proxy.Connections()
	})
}

// mend replaces all connections.
func (b brittle) mend(t testing.TB) {
	t.Helper()
	if err := b.proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	b.proxy.CutAll()
	dbtest.Eventually(t, "the store has new connections", func() bool {
		_, err := b.Len(t.Context())
		return err == nil
	})
	b.quiesce(t)
}

// stored is what the table holds of a key.
type stored struct {
	version int64
	live    bool
	expires int64
	data    []byte
}

// row reads around the store. It is nil where there is none.
func (b brittle) row(t testing.TB, key session.Key) *stored {
	t.Helper()
	var r stored
	err := b.side.QueryRow(`
SELECT version, ended_at IS NULL AND expires_at > `+started+`, expires_at, data FROM `+b.table()+` WHERE hash = UNHEX(?)`, hexOf(key)).
		Scan(&r.version, &r.live, &r.expires, &r.data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

func (b brittle) live(t testing.TB, key session.Key) bool {
	t.Helper()
	r := b.row(t, key)
	return r != nil && r.live
}

func async(op func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- op() }()
	return done
}

// wantErr fails the test unless err is one of want; a nil want means success.
func wantErr(t testing.TB, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if err == nil && w == nil || w != nil && errors.Is(err, w) {
			return
		}
	}
	t.Errorf("%s: %v; want %v", what, err, want)
}

// unique is a text that no other call returns.
func unique(prefix string) string { return prefix + session.NewID(time.Now()).Key().String() }

func newSessionOf(s *Store, user string) session.Record {
	rec := newSession(s, unique("data"))
	rec.User, rec.Expires = user, rec.Deadline.Add(-time.Hour).Truncate(time.Microsecond)
	return rec
}

// foreign begins a transaction that no store knows of.
func (p place) foreign(t testing.TB) (tx *sql.Conn, commit func()) {
	t.Helper()
	conn, err := p.db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	sqlExec(t, conn, `START TRANSACTION`)
	return conn, func() {
		sqlExec(t, conn, `COMMIT`)
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// lockRow holds the row of a key as a transaction of others does.
func (p place) lockRow(t testing.TB, key session.Key) (commit func()) {
	t.Helper()
	tx, commit := p.foreign(t)
	sqlExec(t, tx, `SELECT hash FROM sojourn_sessions WHERE hash = UNHEX(?) FOR UPDATE`, hexOf(key))
	return commit
}

func mysqlError(err error) string {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return fmt.Sprint(e.Number)
	}
	return ""
}
