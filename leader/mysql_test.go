package leader_test

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/mysqllock"
)

type myTerm = leader.Term[*dbsql.Conn]

func myConfig(t testing.TB, dsn string) *mysql.Config {
	t.Helper()
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	c.Logger = &mysql.NopLogger{} // connections are broken on purpose
	return c
}

// mySQL is a statement for Term.Do.
func mySQL(stmt string, args ...any) func(context.Context, *dbsql.Conn) error {
	return func(ctx context.Context, conn *dbsql.Conn) error {
		_, err := conn.ExecContext(ctx, stmt, args...)
		return err
	}
}

// myKey is a lock of the test alone: locks belong to the server.
func myKey(t testing.TB, parts ...string) int64 {
	return leader.Key(append([]string{t.Name()}, parts...)...)
}

func connectionID(t testing.TB, s leader.Session[*dbsql.Conn]) (id int64) {
	t.Helper()
	if err := s.Conn().QueryRowContext(within(t), `SELECT connection_id()`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestOnlyOneSessionHasTheLockOfMySQLUntilItCloses(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		db := dbtest.DB(t, dsn, nil)
		for _, key := range []int64{0, -1, math.MinInt64, math.MaxInt64, myKey(t)} {
			locker := mysqllock.New(myConfig(t, dsn), key, "a name")
			first, second := open(t, locker), open(t, locker)
			if err := first.Verify(within(t)); err == nil {
				t.Errorf("key %d: verified before it was locked", key)
			}
			if info, err := mysqllock.Holder(within(t), db, key); !errors.Is(err, leader.ErrNoLeader) {
				t.Errorf("key %d: the holder is %+v, %v before it was locked, want ErrNoLeader", key, info, err)
			}
			if !lock(t, first) || lock(t, second) {
				t.Fatalf("key %d: want the first session to have the lock, the second not", key)
			}
			if err := first.Verify(within(t)); err != nil {
				t.Errorf("key %d: %v", key, err)
			}
			if err := second.Verify(within(t)); err == nil {
				t.Errorf("key %d: the second session verified a lock of the first", key)
			}
			info, err := mysqllock.Holder(within(t), db, key)
			if want := (mysqllock.Info{ID: connectionID(t, first), User: "root", ClientAddr: "127.0.0.1"}); err != nil || info != want {
				t.Errorf("key %d: the holder is %+v, %v; want %+v", key, info, err, want)
			}
			if ok, err := first.TryLock(within(t)); ok || err == nil {
				t.Errorf("key %d: a second TryLock returned %v, %v; want an error", key, ok, err)
			}
			shut(t, first)
			if !lock(t, second) { // at once: the lock was given back, not left to the end of the session
				t.Errorf("key %d: the lock is still taken", key)
			}
			shut(t, second)
		}
	})
}

func TestTheNameOfTheLeaderIsShownWhereTheServerKeepsIt(t *testing.T) {
	t.Parallel()
	s := dbtest.StartMariaDB(t, dbtest.MySQLConfig{Settings: map[string]string{"performance_schema": "ON"}})
	dsn := s.Database(t)
	db := dbtest.DB(t, dsn, nil)
	c := myConfig(t, dsn)
	c.ConnectionAttributes = "program_name:of config,team:a"
	for name, want := range map[string]string{"node 1": "node 1", "a:b,c\n": "a?b?c?", "": "of config", "a\x00\xff": "a?�",
		strings.Repeat("ü", 1<<17): strings.Repeat("ü", 127)} {
		key := myKey(t, name)
		if !lock(t, open(t, mysqllock.New(c, key, name))) {
			t.Fatal("no lock")
		}
		if info, err := mysqllock.Holder(within(t), db, key); err != nil || info.Name != want {
			t.Errorf("the holder of %q is %+v, %v; want the name %q", name, info, err, want)
		}
	}
}

func TestAnotherUserStillSeesThatSomebodyLeads(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		key := myKey(t)
		session := open(t, mysqllock.New(myConfig(t, dsn), key, "n"))
		if !lock(t, session) {
			t.Fatal("no lock")
		}
		c := newUser(t, s, dsn)
		other := dbtest.DB(t, c.FormatDSN(), nil)
		info, err := mysqllock.Holder(within(t), other, key)
		if want := (mysqllock.Info{ID: connectionID(t, session)}); err != nil || info != want {
			t.Errorf("the holder is %+v, %v; want %+v", info, err, want)
		}
		// It needs no rights to lead, either.
		if !lock(t, open(t, mysqllock.New(c, myKey(t, "other"), ""))) {
			t.Error("no lock")
		}
	})
}

// newUser makes a user that may do everything in the database of dsn and
// nothing else.
func newUser(t testing.TB, s *dbtest.MySQLServer, dsn string) *mysql.Config {
	t.Helper()
	c := myConfig(t, dsn)
	db := dbtest.DB(t, s.DSN("mysql"), nil)
	c.User, c.Passwd = fmt.Sprintf("u%d", time.Now().UnixNano()%1e15), "secret"
	for _, stmt := range []string{
		"CREATE USER " + c.User + "@'127.0.0.1' IDENTIFIED BY 'secret'",
		"GRANT ALL ON " + c.DBName + ".* TO " + c.User + "@'127.0.0.1'",
	} {
		if _, err := db.ExecContext(within(t), stmt); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := db.ExecContext(ctx, "DROP USER "+c.User+"@'127.0.0.1'"); err != nil {
			t.Error(err)
		}
	})
	return c
}

// A statement of others whose text the server cannot convert is in nobody's way.
func TestTheHolderIsToldWhateverOthersRun(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		db := dbtest.DB(t, dsn, nil)
		session := open(t, mysqllock.New(myConfig(t, dsn), myKey(t), ""))
		if !lock(t, session) {
			t.Fatal("no lock")
		}
		const begin = `SELECT sleep(600), `
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- func() error { _, err := db.ExecContext(ctx, begin+"_binary '\xff\xfe'"); return err }()
		}()
		defer func() { cancel(); <-done }()
		dbtest.Eventually(t, "the others' statement is under way", func() bool { return runs(t, db, begin) })
		info, err := mysqllock.Holder(within(t), db, myKey(t))
		if err != nil || info.ID != connectionID(t, session) || info.User != "root" {
			t.Errorf("the holder is %+v, %v", info, err)
		}
	})
}

func TestTimeoutsOfTheServerDoNotEndTheTerm(t *testing.T) {
	t.Parallel()
	dbtest.StartEachMySQL(t, dbtest.MySQLConfig{Settings: map[string]string{
		"wait_timeout": "1", "loose_max_statement_time": "0.5", "loose_max_execution_time": "500", "autocommit": "OFF",
	}}, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		c := myConfig(t, dsn)
		c.ReadTimeout, c.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
		session := open(t, mysqllock.New(c, 1, ""))
		if !lock(t, session) {
			t.Fatal("no lock")
		}
		silent, err := dbtest.DB(t, dsn, nil).Conn(within(t))
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		var id int64
		if err := silent.QueryRowContext(within(t), `SELECT connection_id()`).Scan(&id); err != nil {
			t.Fatal(err)
		}
		// In a pool of its own: this one must not become too old either.
		watcher := dbtest.DB(t, s.DSN("mysql"), nil)
		dbtest.Eventually(t, "the server ends a silent connection", func() bool {
			return !connected(t, watcher, c.DBName, id)
		})
		var interrupted bool // sleep says so instead of failing
		if err := session.Conn().QueryRowContext(within(t), `SELECT sleep(1)`).Scan(&interrupted); err != nil || interrupted {
			t.Errorf("a long statement: interrupted %v, %v", interrupted, err)
		}
		if err := session.Verify(within(t)); err != nil {
			t.Errorf("the leader, as silent: %v", err)
		}
	})
}

func TestAMissingOrWrongMySQLConfigIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := mysqllock.New(nil, 1, "").Open(t.Context(), leader.MinSilence); err == nil || !strings.Contains(err.Error(), "mysql.ParseDSN") {
		t.Errorf("Open returned %v", err)
	}
	c := myConfig(t, "u@tcp(127.0.0.1:1)/x")
	c.TLSConfig = "nowhere"
	if _, err := mysqllock.New(c, 1, "").Open(t.Context(), leader.MinSilence); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("Open returned %v", err)
	}
}
