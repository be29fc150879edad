package leader_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/mysqllock"
	"github.com/sojourn-go/sojourn/leader/pglock"
)

// crashKey is that of the database's own test.
func crashKey(dsn string) int64 { return leader.Key("crash", dsn) }

// again before a statement has it run again and again, until the term ends, whose
// cause is then printed.
const again = "again: "

// work runs statements by do.
func work(leading context.Context, statement string, do func(ctx context.Context, statement string) error) error {
	statement, repeat := strings.CutPrefix(statement, again)
	if !repeat {
		return do(leading, statement)
	}
	for leading.Err() == nil {
		_ = do(leading, statement)
		select {
		case <-leading.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	fmt.Println(context.Cause(leading))
	return context.Cause(leading)
}

// leadUntilKilled is the main function of the process that the tests kill: it
// runs the statement as the leader.
func leadUntilKilled(dsn, statement string) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test's process
		os.Exit(3)
	}()
	err := func() error {
		if strings.HasPrefix(dsn, "postgres://") {
			c, err := pgx.ParseConfig(dsn)
			if err != nil {
				return err
			}
			return leader.Run(context.Background(), pglock.New(c, crashKey(dsn), "child"), leader.Options{},
				func(leading context.Context, term *leader.Term[*pgx.Conn]) error {
					return work(leading, statement, func(ctx context.Context, statement string) error {
						return term.Do(ctx, time.Hour, sql(statement))
					})
				})
		}
		c, err := mysql.ParseDSN(dsn)
		if err != nil {
			return err
		}
		return leader.Run(context.Background(), mysqllock.New(c, crashKey(dsn), "child"), leader.Options{},
			func(leading context.Context, term *myTerm) error {
				return work(leading, statement, func(ctx context.Context, statement string) error {
					return term.Do(ctx, time.Hour, mySQL(statement))
				})
			})
	}()
	fmt.Fprintln(os.Stderr, err)
	os.Exit(4)
}

// startLeader starts a process that leads until it is killed.
func startLeader(t *testing.T, dsn, statement string) (kill func()) {
	t.Helper()
	_, kill = startChild(t, dsn, statement, os.Stderr)
	return kill
}

// startChild is startLeader with what the process prints.
func startChild(t *testing.T, dsn, statement string, out io.Writer) (process *os.Process, kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), childEnv+"="+dsn, childStatementEnv+"="+statement)
	child.Stdout, child.Stderr = out, os.Stderr
	alive, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		if err := child.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = child.Wait()
		_ = alive.Close()
	})
	t.Cleanup(kill)
	return child.Process, kill
}

// succeed has somebody follow a leader, which is then killed, and waits until
// the heir leads.
func succeed[C any](t *testing.T, heir leader.Locker[C], kill func()) {
	t.Helper()
	terms := make(chan *leader.Term[C])
	var states recorder
	opts := quick
	opts.OnChange = states.record
	contend(t, heir, opts, telling(terms, lead))
	dbtest.Eventually(t, "the heir follows", func() bool { return states.last().Connected })
	killed := time.Now()
	kill()
	receive(t, "the heir's term", terms)
	t.Logf("led %v after the kill", time.Since(killed).Round(time.Millisecond))
}

func TestAnotherTakesOverWhenTheLeaderIsKilledInALongStatement(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	kill := startLeader(t, dsn, `SELECT pg_sleep(600)`)
	dbtest.Eventually(t, "the child is in the middle of its statement", func() bool {
		var n int
		err := db.QueryRow(within(t), `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'child (leader)'
			AND state = 'active' AND query = 'SELECT pg_sleep(600)' AND datname = current_database()`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
	succeed(t, pglock.New(config(t, dsn), crashKey(dsn), "heir"), kill)
}

func TestAnotherTakesOverWhenTheLeaderOfAMySQLIsKilled(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		db := dbtest.DB(t, dsn, nil)
		// The server looks after the client of a sleeping statement every five
		// seconds, after that of another one when it is done.
		kill := startLeader(t, dsn, `SELECT sleep(600)`)
		dbtest.Eventually(t, "the child is in the middle of its statement", func() bool { return runs(t, db, `SELECT sleep(600)`) })
		succeed(t, mysqllock.New(myConfig(t, dsn), crashKey(dsn), "heir"), kill)
	})
}
