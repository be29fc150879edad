package leader_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/dbtest"
	"github.com/sojourn-go/sojourn/leader"
)

const crashKey = 42

// leadUntilKilled is the main function of the process that the test kills.
func leadUntilKilled(dsn string) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test's process
		os.Exit(3)
	}()
	c, err := pgx.ParseConfig(dsn)
	if err == nil {
		err = leader.Run(context.Background(), leader.Postgres(c, crashKey, "child"), leader.Options{},
			func(leading context.Context, term *leader.Term[*pgx.Conn]) error {
				return term.Do(leading, time.Hour, sql(`SELECT pg_sleep(600)`))
			})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(4)
}

func TestAnotherTakesOverWhenTheLeaderIsKilledInALongStatement(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), childEnv+"="+dsn)
	child.Stderr = os.Stderr
	alive, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()

	dbtest.Eventually(t, "the child is in the middle of its statement", func() bool {
		var n int
		err := db.QueryRow(within(t), `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'child (leader)'
			AND state = 'active' AND query = 'SELECT pg_sleep(600)' AND datname = current_database()`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
	terms := make(chan *pgTerm)
	var states recorder
	opts := quick
	opts.OnChange = states.record
	contend(t, leader.Postgres(config(t, dsn), crashKey, "heir"), opts, telling(terms, lead))
	dbtest.Eventually(t, "the heir follows", func() bool { return states.last().Connected })
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	receive(t, "the heir's term", terms)
	t.Logf("led %v after the kill", time.Since(killed).Round(time.Millisecond))
}
