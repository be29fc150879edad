package mysqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// Writers go on while the server is killed and started again. What they were
// told is there afterwards.
func TestAServerThatIsKilledLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dbtest.StartEachMySQL(t, dbtest.MySQLConfig{}, func(t *testing.T, srv *dbtest.MySQLServer) {
		s := openStore(t, migrated(t, srv), Options{NextPrune: eager})
		type life struct {
			rec       session.Record // as it was acknowledged last
			first     bool           // that was its creation
			destroyed bool
		}
		lives := make([][]life, 16)
		var written atomic.Int64
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range lives {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					rec, err := s.Create(ctx, newSessionOf(s, fmt.Sprint("user ", i)))
					if err != nil {
						wait.Sleep(ctx, time.Millisecond)
						continue
					}
					at := life{rec: rec, first: true}
					rec.Data = []byte("saved")
					if rec, err = s.Save(ctx, rec); err == nil {
						at.rec, at.first = rec, false
						if n%2 == 0 {
							_, err = s.Destroy(ctx, rec.Key)
							at.destroyed = err == nil
						}
					}
					lives[i] = append(lives[i], at)
					written.Add(1)
				}
			})
		}
		for round := range 2 {
			before := written.Load()
			dbtest.Eventually(t, "sessions are written", func() bool { return written.Load() > before+200 })
			if round == 0 {
				srv.Kill()
			} else {
				srv.Stop()
			}
			if _, err := s.Get(t.Context(), session.NewID(s.Now().Add(time.Hour)).Key()); err == nil || errors.Is(err, session.ErrNotFound) {
				t.Errorf("Get without a server: %v", err)
			}
			srv.Restart(t)
			before = written.Load()
			dbtest.Eventually(t, "sessions are written again", func() bool { return written.Load() > before+50 })
		}
		cancel()
		wg.Wait()
		checked := 0
		for _, some := range lives {
			for _, l := range some {
				got, err := s.Get(t.Context(), l.rec.Key)
				switch {
				case l.destroyed && err == nil:
					t.Error("a destroyed session lives again")
				case l.destroyed:
				case err == nil && (got.Version < l.rec.Version || got.Version == l.rec.Version && string(got.Data) != string(l.rec.Data)):
					t.Errorf("version %d was acknowledged; it has version %d", l.rec.Version, got.Version)
				case err != nil && l.first: // a Destroy may have happened
				case err != nil && !errors.Is(err, session.ErrNotFound):
					t.Errorf("Get: %v", err)
				}
				checked++
			}
		}
		if checked < 400 {
			t.Errorf("only %d sessions were written", checked)
		}
		dbtest.Eventually(t, "a pass is done again", func() bool { return time.Since(s.Stats().Maintained) < time.Minute })
	})
}

// The server closes connections that are idle for too long. Nobody notices.
func TestConnectionsThatTheServerHasClosedAreReplaced(t *testing.T) {
	t.Parallel()
	srv := dbtest.StartMariaDB(t, dbtest.MySQLConfig{Settings: map[string]string{"wait_timeout": "3"}})
	p := migrated(t, srv)
	s := openStore(t, p, quiet)
	rec := create(t, s, newSessionOf(s, "ada"))
	side := dbtest.DB(t, srv.DSN(""), nil)
	side.SetMaxIdleConns(0)
	for range 2 {
		dbtest.Eventually(t, "the server has closed all connections", func() bool {
			return len(dbtest.Processes(t, side, s.database)) == 0
		})
		var err error
		if rec, err = s.Save(t.Context(), rec); err != nil {
			t.Errorf("Save: %v", err)
		}
		if _, err = s.Get(t.Context(), rec.Key); err != nil {
			t.Errorf("Get: %v", err)
		}
	}
	if st := s.Stats(); st.Retries != 0 || st.Unknown != 0 {
		t.Errorf("%d retries, %d unknown", st.Retries, st.Unknown)
	}
}

func TestAServerThatIsReadOnlySaysSo(t *testing.T) {
	t.Parallel()
	dbtest.StartEachMySQL(t, dbtest.MySQLConfig{}, func(t *testing.T, srv *dbtest.MySQLServer) {
		dsn := migrated(t, srv).dsn
		admin := dbtest.DB(t, srv.DSN(""), nil)
		sqlExec(t, admin, `CREATE USER app@'%' IDENTIFIED BY 'secret'`)
		sqlExec(t, admin, `GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO app@'%'`)
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			t.Fatal(err)
		}
		cfg.User, cfg.Passwd, cfg.AllowNativePasswords = "app", "secret", true
		p := place{dsn: cfg.FormatDSN(), db: pool40(t, cfg.FormatDSN(), nil)}
		s := openStore(t, p, quiet)
		rec := create(t, s, newSessionOf(s, "ada"))
		sqlExec(t, admin, `SET GLOBAL read_only = 1`)
		for what, do := range map[string]func() error{
			"Create":  func() error { _, err := s.Create(t.Context(), newSessionOf(s, "ada")); return err },
			"Save":    func() error { _, err := s.Save(t.Context(), rec); return err },
			"Touch":   func() error { _, err := s.Touch(t.Context(), rec.Key, rec.Deadline); return err },
			"Destroy": func() error { _, err := s.Destroy(t.Context(), rec.Key); return err },
			"Put":     func() error { _, err := s.Put(t.Context(), rec); return err },
		} {
			err := do()
			if !errors.Is(err, ErrReadOnly) || errors.Is(err, session.ErrUnknown) || mysqlError(err) != "1290" {
				t.Errorf("%s: %v; want ErrReadOnly and the driver's error", what, err)
			}
		}
		if got, err := s.Get(t.Context(), rec.Key); err != nil || got.Version != rec.Version {
			t.Errorf("Get = version %d, %v", got.Version, err)
		}
		// A write that comes in the middle of a failover is made up for.
		saving := async(func() error { _, err := s.Save(t.Context(), rec); return err })
		dbtest.Eventually(t, "it was refused once", func() bool { return s.Stats().Retries > 0 })
		sqlExec(t, admin, `SET GLOBAL read_only = 0`)
		if err := <-saving; err != nil && !errors.Is(err, ErrReadOnly) {
			t.Errorf("Save: %v", err)
		}
		if _, err := s.Touch(t.Context(), rec.Key, rec.Deadline); err != nil {
			t.Errorf("Touch: %v", err)
		}
	})
}

func TestAServerWithoutRoomForConnectionsIsWaitedFor(t *testing.T) {
	t.Parallel()
	srv := dbtest.StartMariaDB(t, dbtest.MySQLConfig{Settings: map[string]string{"max_connections": "20"}})
	p := migrated(t, srv)
	p.db.SetMaxIdleConns(0)
	s := openStore(t, p, quiet)
	rec := create(t, s, newSessionOf(s, "ada"))
	s.conns.drain()
	impatient := quiet
	impatient.WriteTimeout = 20 * time.Second
	other := openStore(t, p, impatient)
	other.conns.drain()
	hog := dbtest.DB(t, p.dsn, nil)
	fill := func() (release func()) {
		var release0 []func() error
		for {
			c, err := hog.Conn(t.Context())
			if err != nil {
				break
			}
			release0 = append(release0, c.Close)
		}
		hog.SetMaxIdleConns(1)
		return func() {
			for _, f := range release0 {
				if err := f(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	release := fill()
	saving := async(func() (err error) { rec, err = s.Save(t.Context(), rec); return err })
	reading := async(func() error { _, err := s.Get(t.Context(), rec.Key); return err })
	dbtest.Eventually(t, "the write was tried again", func() bool { return s.Stats().Retries > 2 })
	release()
	if err := errors.Join(<-saving, <-reading); err != nil {
		t.Errorf("Save and Get: %v", err)
	}
	s.conns.drain()
	release = fill()
	_, err := other.Save(t.Context(), rec)
	if !errors.Is(err, ErrBusy) || errors.Is(err, session.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Save: %v; want ErrBusy", err)
	}
	release()
}

// No packet is longer than the server takes, and what cannot fit is refused
// before anything is sent.
func TestPacketsAreNotLongerThanTheServerTakes(t *testing.T) {
	t.Parallel()
	dbtest.StartEachMySQL(t, dbtest.MySQLConfig{Settings: map[string]string{"max_allowed_packet": "65536"}}, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		s := openStore(t, p, quiet)
		most := s.opts.MaxData
		if most >= 65536 || most < 50_000 || s.opts.BatchBytes > 65536 {
			t.Errorf("MaxData is %d, BatchBytes %d", most, s.opts.BatchBytes)
		}
		if _, err := New(t.Context(), p.db, Options{MaxData: 1 << 20}); err == nil || !strings.Contains(err.Error(), "max_allowed_packet, 65536, allows") {
			t.Errorf("New with too long a MaxData: %v", err)
		}
		var ops []func() error
		for i := range 60 {
			ops = append(ops, func() error {
				rec := newSession(s, strings.Repeat("x", max(1, most-i*1000)))
				rec, err := s.Create(t.Context(), rec)
				if err == nil {
					rec.Data[0] = 'y'
					rec, err = s.Save(t.Context(), rec)
				}
				if got, err := s.Get(t.Context(), rec.Key); err != nil || string(got.Data) != string(rec.Data) {
					t.Errorf("Get = %d bytes, %v", len(got.Data), err)
				}
				return err
			})
		}
		for i, err := range oneBatch(t, s.creates, ops...) {
			if err != nil {
				t.Errorf("%d bytes: %v", most-i*1000, err)
			}
		}
		_, err := s.Create(t.Context(), newSession(s, strings.Repeat("x", most+1)))
		if !errors.Is(err, session.ErrTooLarge) || !strings.Contains(err.Error(), fmt.Sprint(most)) {
			t.Errorf("Create of too much: %v", err)
		}
		// The server takes less than when the store began.
		admin := dbtest.DB(t, srv.DSN(""), nil)
		sqlExec(t, admin, `SET GLOBAL max_allowed_packet = 16777216`)
		p.db.SetMaxIdleConns(0)
		opts := quiet
		opts.MaxData = 12 << 20
		s = openStore(t, p, opts)
		create(t, s, newSession(s, strings.Repeat("x", 2<<20)))
		sqlExec(t, admin, `SET GLOBAL max_allowed_packet = 16384`)
		s.conns.drain()
		_, err = s.Create(t.Context(), newSession(s, strings.Repeat("x", 12<<20)))
		if !errors.Is(err, session.ErrTooLarge) || !strings.Contains(err.Error(), "max_allowed_packet") || errors.Is(err, session.ErrUnknown) {
			t.Errorf("Create of more than the server takes now: %v", err)
		}
		create(t, s, newSession(s, "little"))
	})
}

// drain closes all connections that are idle.
func (p *pool) drain() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}
