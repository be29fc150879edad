package mysqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/mysqlproc"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
	"github.com/sojourn-go/sojourn/session"
)

const patience = dbtest.Patience

// quiet does nothing in the background.
var quiet = Options{PruneInterval: -1}

// place is a database with our tables.
type place struct {
	dsn string
	db  *sql.DB
}

// migrated is a database of the test's own.
func migrated(t testing.TB, srv *dbtest.MySQLServer) place {
	t.Helper()
	return migratedAt(t, srv.Database(t), nil)
}

func migratedAt(t testing.TB, dsn string, mod func(*mysql.Config)) place {
	t.Helper()
	p := place{dsn: dsn, db: pool40(t, dsn, mod)}
	if err := migrations.Up(t.Context(), p.db, migrations.Config{}); err != nil {
		t.Fatal(err)
	}
	return p
}

func pool40(t testing.TB, dsn string, mod func(*mysql.Config)) *sql.DB {
	db := dbtest.DB(t, dsn, mod)
	db.SetMaxIdleConns(4)
	return db
}

// openStore takes shorter write timeouts than New does. Unless a test is about
// them, no write takes too long.
func openStore(t testing.TB, p place, opts Options) *Store {
	t.Helper()
	opts.WriteTimeout = cmp.Or(opts.WriteTimeout, patience)
	s, err := newStore(t.Context(), p.db, opts.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// blocked is how many statements in a database wait for locks.
func (p place) blocked(t testing.TB, database string) int {
	t.Helper()
	var server string
	if err := p.db.QueryRowContext(context.Background(), `SELECT CONCAT(@@hostname, ':', @@port)`).Scan(&server); err != nil {
		t.Error(err)
	}
	lockWaits.mu.Lock()
	defer lockWaits.mu.Unlock()
	seen := lockWaits.servers[server]
	if time.Since(seen.at) > lockWaitsAge {
		seen = seenWaits{at: time.Now(), waits: p.lockWaits(t)}
		lockWaits.servers[server] = seen
	}
	if seen.at.Before(lockWaits.held[database]) {
		return 0 // it may be about an earlier lock
	}
	return seen.waits[database]
}

// holding takes note that what waits in a database from now on is of interest.
func holding(database string) {
	lockWaits.mu.Lock()
	defer lockWaits.mu.Unlock()
	lockWaits.held[database] = time.Now()
}

// The server shows an old state of its transactions until nobody has looked for
// a tenth of a second, so tests that run beside each other have to share a look.
var lockWaits = struct {
	mu      sync.Mutex
	servers map[string]seenWaits
	held    map[string]time.Time
}{servers: map[string]seenWaits{}, held: map[string]time.Time{}}

type seenWaits struct {
	at    time.Time
	waits map[string]int // by database
}

const lockWaitsAge = 120 * time.Millisecond

func (p place) lockWaits(t testing.TB) map[string]int {
	t.Helper()
	ctx := context.Background()
	ids, err := queryInts(ctx, p.db, `SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'`)
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok && e.Number == cannotConvert {
		return nil // MySQL lists statements too, and another test's has bytes that are no text
	}
	if err != nil {
		t.Error(err)
	}
	waiting := map[int64]bool{}
	for _, id := range ids {
		waiting[id] = true
	}
	all, err := mysqlproc.List(ctx, p.db)
	if err != nil {
		t.Error(err)
	}
	waits := map[string]int{}
	for _, process := range all {
		if waiting[process.ID] {
			waits[process.Database]++
		}
	}
	return waits
}

// cannotConvert is the number of MySQL's ER_CANNOT_CONVERT_STRING.
const cannotConvert = 3854

func queryInts(ctx context.Context, db *sql.DB, text string) (all []int64, err error) {
	rows, err := db.QueryContext(ctx, text)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, rows.Err()
}

func sqlExec(t testing.TB, db execer, text string, args ...any) int64 {
	t.Helper()
	result, err := db.ExecContext(context.Background(), text, args...)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newSession(s *Store, data string) session.Record {
	deadline := s.Now().Add(2 * time.Hour)
	return session.Record{Key: session.NewID(deadline).Key(), Deadline: deadline, Data: []byte(data)}
}

func create(t testing.TB, s *Store, rec session.Record) session.Record {
	t.Helper()
	rec, err := s.Create(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}
