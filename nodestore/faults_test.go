package nodestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/session"
)

// sqliteError is an error of SQLite's driver.
type sqliteError struct{ code int }

func (e sqliteError) Error() string { return fmt.Sprint("code ", e.code) }
func (e sqliteError) Code() int     { return e.code }

func TestErrorsAreToldApart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err            error
		conflict, open bool
		means          error
	}{
		{&pgconn.PgError{Code: "40001"}, true, false, nil},
		{&pgconn.PgError{Code: "40P01"}, true, false, nil},
		{&pgconn.PgError{Code: "22P05"}, false, false, session.ErrInvalid},
		{&pgconn.PgError{Code: "22001"}, false, false, session.ErrTooLarge},
		{&pgconn.PgError{Code: "23514"}, false, false, session.ErrInvalid},
		{&pgconn.PgError{Code: "54000"}, false, false, session.ErrTooLarge},
		{&pgconn.PgError{Code: "57014"}, false, false, nil},
		{&pgconn.PgError{Code: "57P01"}, false, true, session.ErrUnknown},
		{&pgconn.PgError{Code: "08006"}, false, true, session.ErrUnknown},
		{&pgconn.PgError{Code: "40003"}, false, true, session.ErrUnknown},
		{&mysql.MySQLError{Number: 1213}, true, false, nil},
		{&mysql.MySQLError{Number: 1205}, false, false, nil},
		{&mysql.MySQLError{Number: 1366}, false, false, session.ErrInvalid},
		{&mysql.MySQLError{Number: 1406}, false, false, session.ErrTooLarge},
		{mysql.ErrPktTooLarge, false, false, session.ErrTooLarge},
		{mysql.ErrInvalidConn, false, true, session.ErrUnknown},
		{sqliteError{5}, true, false, nil},
		{sqliteError{517}, true, false, nil}, // SQLITE_BUSY_SNAPSHOT
		{sqliteError{18}, false, false, session.ErrTooLarge},
		{sqliteError{10}, false, true, session.ErrUnknown},
		{sqliteError{8}, false, false, nil},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, false, false, nil},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, false, true, session.ErrUnknown},
		{context.DeadlineExceeded, false, true, session.ErrUnknown},
		{before(context.DeadlineExceeded), false, false, nil},
		{session.ErrConflict, false, true, nil},
	} {
		err := fmt.Errorf("wrapped: %w", tt.err)
		if got := isConflict(err); got != tt.conflict {
			t.Errorf("%v: conflict %v", err, got)
		}
		if got := isOpen(err); got != tt.open {
			t.Errorf("%v: open %v", err, got)
		}
		got := written(t.Context(), err)
		if tt.means != nil && !errors.Is(got, tt.means) || tt.means == nil && errors.Is(got, session.ErrUnknown) || !errors.Is(got, tt.err) {
			t.Errorf("%v means %v, want %v", err, got, tt.means)
		}
	}
}

// onEachProxied runs a test on servers behind a proxy.
func onEachProxied(t *testing.T, test func(t *testing.T, s *Store, p *faultproxy.Proxy)) {
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		dsn := dbtest.Postgres(t).Database(t)
		cfg := dbtest.Conn(t, dsn).Config()
		p, err := faultproxy.New(net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		pool := dbtest.Pool(t, strings.Replace(dsn, net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)), p.Addr(), 1), func(c *pgxpool.Config) {
			c.ConnConfig.ConnectTimeout = time.Minute
		})
		db := stdlib.OpenDBFromPool(pool)
		t.Cleanup(func() { _ = db.Close() })
		test(t, openOn(t, db, ConnectPGSimple(), created(quietly), time.Now), p)
	})
	t.Run("mysql", func(t *testing.T) {
		dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
			p, dsn := dbtest.MySQLProxy(t, s.Database(t))
			test(t, openOn(t, dbtest.DB(t, dsn, nil), ExpressMySQLSession(), created(quietly), time.Now), p)
		})
	})
}

func TestALostAnswerIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	onEachProxied(t, func(t *testing.T, s *Store, p *faultproxy.Proxy) {
		now := time.Now()
		e := mustCreate(t, s, "sid", doc(now, ""))
		for name, call := range map[string]func(ctx context.Context) error{
			"set":     func(ctx context.Context) error { return s.Set(ctx, "sid", doc(now, `,"n":1`)) },
			"create":  func(ctx context.Context) error { _, err := s.Create(ctx, "new", e.Data, time.Time{}); return err },
			"save":    func(ctx context.Context) error { _, err := s.Save(ctx, e, doc(now, `,"n":2`), time.Time{}); return err },
			"touch":   func(ctx context.Context) error { _, err := s.Touch(ctx, "sid", now.Add(day)); return err },
			"destroy": func(ctx context.Context) error { _, err := s.Destroy(ctx, "sid"); return err },
			"get":     func(ctx context.Context) error { _, err := s.Get(ctx, "sid"); return err },
		} {
			p.SetMode(faultproxy.ToServer, faultproxy.Pass())
			p.SetMode(faultproxy.ToClient, faultproxy.Pass())
			p.CutAll()
			dbtest.Eventually(t, "there is a connection again", func() bool { return s.db.PingContext(t.Context()) == nil })
			lost := p.Trigger(faultproxy.ToClient, func([]byte) bool { return true }, faultproxy.HangBefore)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				select {
				case <-lost:
					cancel()
				case <-ctx.Done():
				}
			}()
			err := call(ctx)
			cancel()
			wantErr(t, name, err, context.Canceled)
			if got, want := errors.Is(err, session.ErrUnknown), name != "get"; got != want {
				t.Errorf("%s: %v; is it unknown? %v", name, err, want)
			}
			if err != nil && strings.Contains(err.Error(), "sid") {
				t.Errorf("the error tells the ID: %v", err)
			}
		}
		p.Refuse()
		p.CutAll()
		dbtest.Eventually(t, "the pool has no connection left that was cut", func() bool {
			err := s.Set(t.Context(), "sid", e.Data)
			return err != nil && !errors.Is(err, session.ErrUnknown)
		})
		if err := p.Accept(); err != nil {
			t.Fatal(err)
		}
		p.SetMode(faultproxy.ToClient, faultproxy.Pass())
		if err := s.Set(t.Context(), "sid", e.Data); err != nil {
			t.Errorf("after the outage: %v", err)
		}
	})
}

func TestWhatOthersMadeFailIsRepeated(t *testing.T) {
	t.Parallel()
	s := offline(ConnectSQLite())
	for _, tt := range []struct {
		failures, want int
		err            error
	}{
		{0, 1, nil},
		{2, 3, &pgconn.PgError{Code: "40P01"}},
		{2, 1, errors.New("other")},
		{100, tries, sqliteError{5}},
	} {
		calls := 0
		err := s.retry(t.Context(), func() error {
			if calls++; calls <= tt.failures {
				return tt.err
			}
			return nil
		})
		if calls != tt.want || (err == nil) != (calls > tt.failures) {
			t.Errorf("%v, %d times: %d calls, then %v", tt.err, tt.failures, calls, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "with an ended context", s.retry(ended, func() error { return sqliteError{5} }), sqliteError{5})
}

// Without busy_timeout, SQLite refuses at once what has to wait.
func TestABusyFileIsWaitedFor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node.db")
	var wg sync.WaitGroup
	for i := range 4 {
		db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=synchronous(off)")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		s := openOn(t, db, ConnectSQLite(), created(quietly), time.Now)
		wg.Go(func() {
			for j := range 25 {
				if err := s.Set(t.Context(), fmt.Sprint(i, " ", j), doc(time.Now(), "")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestSerializationFailuresAreRepeated(t *testing.T) {
	t.Parallel()
	dsn, schema := dbtest.Postgres(t).Schema(t)
	db := postgresPool(t, dsn, map[string]string{"search_path": schema, "default_transaction_isolation": "serializable"})
	s := openOn(t, db, ConnectPGSimple(), created(quietly), time.Now)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 50 {
				if err := s.Set(t.Context(), "a", doc(time.Now(), fmt.Sprintf(`,"n":%d`, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Two transactions that each wait for the other's row: the server ends one.
func TestDeadlocksAreRepeated(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *sql.DB, l Layout) {
		s := openOn(t, db, l, created(quietly), time.Now)
		for range 20 {
			a, b := mustCreate(t, s, "a", doc(time.Now(), "")), mustCreate(t, s, "b", doc(time.Now(), ""))
			var wg sync.WaitGroup
			for _, renew := range []func() error{
				func() error { _, err := s.Renew(t.Context(), a, "b", a.Data, time.Time{}); return err },
				func() error { _, err := s.Renew(t.Context(), b, "a", b.Data, time.Time{}); return err },
			} {
				wg.Go(func() { wantErr(t, "renew", renew(), session.ErrExists) })
			}
			wg.Wait()
			if n, err := s.Clear(t.Context()); n != 2 || err != nil {
				t.Fatalf("cleared %d (%v)", n, err)
			}
		}
	})
}
