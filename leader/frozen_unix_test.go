//go:build unix

package leader_test

import (
	"bufio"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/mysqllock"
	"github.com/sojourn-go/sojourn/leader/pglock"
)

// freeze has a process that leads stand still while somebody follows, and wakes
// it when that one leads.
func freeze[C any](t *testing.T, dsn, statement string, heir leader.Locker[C], acts func() int) {
	t.Helper()
	said, out := io.Pipe()
	lines := make(chan string, 16)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(said); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	process, kill := startChild(t, dsn, again+statement, out)
	dbtest.Eventually(t, "the child acts", func() bool { return acts() > 0 })

	terms := make(chan *leader.Term[C])
	var states recorder
	opts := quick
	opts.OnChange = states.record
	contend(t, heir, opts, telling(terms, lead))
	dbtest.Eventually(t, "the heir follows", func() bool { return states.last().Connected })
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	frozen := time.Now()
	receive(t, "the heir's term", terms)
	t.Logf("led %v after the leader was frozen", time.Since(frozen).Round(time.Millisecond))

	before := acts()
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	line := receive(t, "what the child says", lines)
	if !strings.HasPrefix(line, leader.ErrLost.Error()) {
		t.Errorf("the child's term ended with %q, want ErrLost", line)
	}
	kill()
	if err := out.Close(); err != nil {
		t.Error(err)
	}
	for range lines {
	}
	if after := acts(); after != before {
		t.Errorf("it acted %d times after it had woken", after-before)
	}
}

func TestAFrozenLeaderIsSucceeded(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	if _, err := db.Exec(within(t), `CREATE TABLE acts (n integer)`); err != nil {
		t.Fatal(err)
	}
	freeze(t, dsn, `INSERT INTO acts VALUES (1)`, pglock.New(config(t, dsn), crashKey(dsn), "heir"), func() (n int) {
		if err := db.QueryRow(within(t), `SELECT count(*) FROM acts`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	})
}

func TestAFrozenLeaderOfAMySQLIsSucceeded(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		db := dbtest.DB(t, dsn, nil)
		if _, err := db.ExecContext(within(t), `CREATE TABLE acts (n integer)`); err != nil {
			t.Fatal(err)
		}
		freeze(t, dsn, `INSERT INTO acts VALUES (1)`, mysqllock.New(myConfig(t, dsn), crashKey(dsn), "heir"), func() (n int) {
			if err := db.QueryRowContext(within(t), `SELECT count(*) FROM acts`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		})
	})
}
