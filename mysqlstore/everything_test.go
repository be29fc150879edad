package mysqlstore

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// everything uses each operation, alone and in batches, on sessions of its own.
func everything(t testing.TB, s *Store) {
	t.Helper()
	ctx := t.Context()
	name := session.NewID(s.Now()).Key().String()
	fail := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	count := func(what string, got, want int64, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Errorf("%s = %d, %v; want %d", what, got, err, want)
		}
	}
	made := func() session.Record {
		t.Helper()
		rec := newSession(s, strings.Repeat("data", 5000))
		rec.User, rec.Expires = name, rec.Deadline.Add(-time.Hour)
		got, err := s.Create(ctx, rec)
		fail("Create", err)
		if age := s.Now().Sub(got.Created); age < 0 || age > time.Minute {
			t.Errorf("Create: Created is %v ago", age)
		}
		return got
	}
	kept, saved, gone := made(), made(), made()
	saved.Data = []byte("it's \\ \x00\xff saved")
	saved.Expires = time.Time{}
	saved, err := s.Save(ctx, saved)
	fail("Save", err)
	want := saved.Deadline.Add(-30 * time.Minute)
	got, err := s.Touch(ctx, saved.Key, want)
	fail("Touch", err)
	if !got.Equal(want) {
		t.Errorf("Touch = %v; want %v", got, want)
	}
	next := newSession(s, string(saved.Data))
	next.Version, next.User = saved.Version, name
	next, err = s.Renew(ctx, saved.Key, next, time.Minute)
	fail("Renew", err)
	for _, key := range []session.Key{saved.Key, next.Key} {
		rec, err := s.Get(ctx, key)
		if err != nil || string(rec.Data) != string(saved.Data) || rec.Key != next.Key || rec.User != name || !rec.Created.Equal(saved.Created) {
			t.Errorf("Get after Save and Renew = %+v, %v", rec, err)
		}
	}
	n, err := s.Destroy(ctx, gone.Key)
	count("Destroy", n, 1, err)
	if fate, err := s.Fate(ctx, gone.Key); fate != session.FateEnded || err != nil {
		t.Errorf("Fate = %v, %v", fate, err)
	}
	foreign := session.Record{Key: session.ForeignKey("test", name), Data: []byte("foreign")}
	for range 2 {
		_, err = s.Put(ctx, foreign)
		fail("Put", err)
	}
	list, err := s.ListUser(ctx, name, session.Record{}, 1000)
	count("ListUser", int64(len(list)), 2, err)
	_, evicted, err := s.CreateLimited(ctx, session.Record{
		Key: session.NewID(kept.Deadline).Key(), Deadline: kept.Deadline, User: name,
	}, session.UserLimit{Max: 2, Evict: true})
	count("CreateLimited", int64(len(evicted)), 1, err)

	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			rec := made()
			rec.Data, rec.Expires = []byte(session.NewID(s.Now()).Key().String()), rec.Expires.Add(time.Minute)
			rec, err := s.Save(ctx, rec)
			fail("Save", err)
			_, err = s.Touch(ctx, rec.Key, rec.Expires.Add(time.Minute))
			fail("Touch", err)
			got, err := s.Get(ctx, rec.Key)
			if err != nil || got.Version != rec.Version || string(got.Data) != string(rec.Data) || !got.Expires.Equal(rec.Expires.Add(time.Minute)) {
				t.Errorf("Get = version %d, %d bytes, %v, %v; want %v", got.Version, len(got.Data), got.Expires, err, rec.Expires.Add(time.Minute))
			}
			n, err := s.Destroy(ctx, rec.Key)
			count("Destroy", n, 1, err)
		})
	}
	wg.Wait()
	n, err = s.DestroyUser(ctx, name)
	count("DestroyUser", n, 2, err)
	n, err = s.CountUser(ctx, name)
	count("CountUser", n, 0, err)
	n, err = s.Len(ctx)
	count("Len", n, 1, err)
	for rec, err := range s.All(ctx) {
		fail("All", err)
		if rec.Key.Hash != foreign.Key.Hash {
			t.Errorf("All has %v", rec.Key)
		}
	}
	_, err = s.PruneNow(ctx)
	fail("PruneNow", err)
	n, err = s.Clear(ctx)
	count("Clear", n, 1, err)
}

// Nothing depends on how the application has set up its pool.
func TestTheSettingsOfThePoolMakeNoDifference(t *testing.T) {
	t.Parallel()
	param := func(name, value string) func(*mysql.Config) {
		return func(c *mysql.Config) { c.Params = map[string]string{name: value} }
	}
	settings := map[string]func(*mysql.Config){
		"parseTime and loc": func(c *mysql.Config) { c.ParseTime, c.Loc = true, time.FixedZone("far", 13*3600) },
		"clientFoundRows":   func(c *mysql.Config) { c.ClientFoundRows = true },
		"interpolateParams": func(c *mysql.Config) { c.InterpolateParams = true },
		"multiStatements":   func(c *mysql.Config) { c.MultiStatements = true },
		"latin1":            func(c *mysql.Config) { c.Collation = "latin1_swedish_ci" },
		"columnsWithAlias":  func(c *mysql.Config) { c.ColumnsWithAlias = true },
		"small packets":     func(c *mysql.Config) { c.MaxAllowedPacket = 1 << 12 },
		"time_zone":         param("time_zone", "'+09:30'"),
		"no sql_mode":       param("sql_mode", "''"),
		"strange sql_mode":  param("sql_mode", "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE,PAD_CHAR_TO_FULL_LENGTH'"),
		"no autocommit":     param("autocommit", "0"),
		"safe updates":      param("sql_safe_updates", "1"),
		"few rows":          param("sql_select_limit", "1"),
		"chained commits":   param("completion_type", "'CHAIN'"),
		"long lock waits":   param("innodb_lock_wait_timeout", "100"),
		"another charset":   param("character_set_connection", "ucs2"),
	}
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		isolation := "transaction_isolation"
		if srv.IsMariaDB() {
			isolation = "tx_isolation"
			settings["empty is NULL true"] = param("sql_mode", "'EMPTY_STRING_IS_NULL'")
		}
		for _, level := range []string{"READ-UNCOMMITTED", "REPEATABLE-READ", "SERIALIZABLE"} {
			settings[level+fmt.Sprint(srv.IsMariaDB())] = param(isolation, "'"+level+"'")
		}
		dsn := migrated(t, srv).dsn
		for name, mod := range settings {
			if strings.HasSuffix(name, fmt.Sprint(!srv.IsMariaDB())) {
				continue
			}
			s := openStore(t, place{dsn: dsn, db: pool40(t, dsn, mod)}, quiet)
			everything(t, s)
			closeStore(t, s)
			if t.Failed() {
				t.Fatal("with", name)
			}
		}
	})
}

// What the application does to a connection that it gives back to its pool does
// not reach the store.
func TestWhatTheApplicationLeavesOnAConnectionIsUndone(t *testing.T) {
	t.Parallel()
	srv := dbtest.MariaDB(t)
	p := migrated(t, srv)
	p.db.SetMaxIdleConns(1)
	other := srv.Database(t)
	cfg, err := mysql.ParseDSN(other)
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, p, quiet)
	rec := create(t, s, newSession(s, "data"))
	for _, c := range s.conns.idle {
		c.broken = true // the next one is the application's
	}
	conn, err := p.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sqlExec(t, conn, `SET SESSION TRANSACTION READ ONLY`)
	sqlExec(t, conn, `SET SESSION autocommit = 0`)
	sqlExec(t, conn, `START TRANSACTION READ WRITE`)
	sqlExec(t, conn, `DELETE FROM sojourn_sessions`)
	sqlExec(t, conn, `USE `+cfg.DBName)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), rec.Key); err != nil || string(got.Data) != "data" {
		t.Errorf("Get = %q, %v", got.Data, err)
	}
	if _, err := s.Save(t.Context(), rec); err != nil {
		t.Errorf("Save: %v", err)
	}
}

// Where statements are replicated as such, none may depend on when it runs.
func TestStatementsThatAreReplicatedAreWrittenAtALevelThatAllowsIt(t *testing.T) {
	t.Parallel()
	srv := dbtest.StartMariaDB(t, dbtest.MySQLConfig{Settings: map[string]string{
		"log_bin": "log", "server_id": "1", "binlog_format": "STATEMENT",
	}})
	everything(t, openStore(t, migrated(t, srv), quiet))
}

func TestAServerWhoseSysdateIsNowIsFoundOut(t *testing.T) {
	t.Parallel()
	srv := dbtest.StartMariaDB(t, dbtest.MySQLConfig{Settings: map[string]string{"sysdate_is_now": "ON"}})
	s := openStore(t, migrated(t, srv), quiet)
	everything(t, s)
	if s.conns.idle[0].instant {
		t.Error("it was not found out")
	}
}
