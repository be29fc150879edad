package leader_test

import (
	"context"
	dbsql "database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/mysqlproc"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/mysqllock"
)

// killLeader ends the connection of whoever leads, and reports whether somebody
// did.
func killLeader(t testing.TB, db *dbsql.DB, key int64) bool {
	t.Helper()
	info, err := mysqllock.Holder(within(t), db, key)
	if errors.Is(err, leader.ErrNoLeader) {
		return false // between two terms
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(within(t), fmt.Sprint("KILL ", info.ID)); err != nil && myCode(err) != 1094 { // it has just gone
		t.Fatal(err)
	}
	return true
}

func TestTermsOnMySQLNeverInterleaveWhateverHappensToTheLeaders(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		db := dbtest.DB(t, dsn, nil)
		for _, stmt := range []string{
			`CREATE TABLE beats (seq bigint AUTO_INCREMENT PRIMARY KEY, node int, term bigint) ENGINE=InnoDB`,
			`CREATE TABLE one (n int PRIMARY KEY) ENGINE=InnoDB`,
			`INSERT INTO one VALUES (1)`,
		} {
			if _, err := db.ExecContext(within(t), stmt); err != nil {
				t.Fatal(err)
			}
		}
		key := myKey(t)
		opts := quick
		opts.Verify = time.Second // a work that is not fenced would go on for as long
		var beats atomic.Int64
		for node := range 5 {
			contend(t, mysqllock.New(myConfig(t, dsn), key, ""), opts, func(leading context.Context, term *myTerm) error {
				for {
					err := term.Do(leading, patience, func(ctx context.Context, conn *dbsql.Conn) error {
						tx, err := conn.BeginTx(ctx, nil)
						if err != nil {
							return err
						}
						defer func() { _ = tx.Rollback() }()
						// Nobody else has it: the transaction of the last leader is gone.
						if _, err := tx.ExecContext(ctx, `SELECT n FROM one FOR UPDATE NOWAIT`); err != nil {
							if code := myCode(err); code == 3572 || code == 1205 {
								t.Errorf("the last leader's rows are still locked: %v", err)
							}
							return err
						}
						if _, err := tx.ExecContext(ctx, `INSERT INTO beats (node, term) VALUES (?, ?)`, node, term.Number); err != nil {
							return err
						}
						return tx.Commit()
					})
					if err != nil {
						return err
					}
					if beats.Add(1)%200 == 0 {
						return nil // resign from time to time
					}
				}
			})
		}
		for kills := 0; kills < 10; {
			before := beats.Load()
			dbtest.Eventually(t, "a leader works", func() bool { return beats.Load() > before+5 })
			if killLeader(t, db, key) {
				kills++
			}
		}

		// A term whose beats have those of another one between them has overlapped it.
		var terms, stretches int
		err := db.QueryRowContext(within(t), `
			SELECT count(DISTINCT node, term), sum(changed)
			  FROM (SELECT node, term, NOT (lag(node) OVER w <=> node AND lag(term) OVER w <=> term) AS changed
			          FROM beats WINDOW w AS (ORDER BY seq)) AS b`).Scan(&terms, &stretches)
		if err != nil {
			t.Fatal(err)
		}
		if terms < 8 || stretches != terms {
			t.Errorf("%d terms in %d stretches, want as many stretches as terms, and at least 8", terms, stretches)
		}
	})
}

func TestLeadersOnMySQLThatResignDoNotOverlapAndLeaveNothing(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		var leaders, terms atomic.Int64
		work := func(leading context.Context, term *myTerm) error {
			if n := leaders.Add(1); n != 1 {
				t.Errorf("%d work functions run at the same time", n)
			}
			defer leaders.Add(-1)
			switch terms.Add(1) % 3 {
			case 0:
				return errors.New("some failure")
			case 1:
				return term.Do(leading, patience, mySQL(`SELECT sleep(0.02)`))
			default:
				return nil
			}
		}
		opts := quick
		opts.MaxBackoff = opts.Poll
		var nodes []election
		for range 4 {
			nodes = append(nodes, contend(t, mysqllock.New(myConfig(t, dsn), myKey(t), ""), opts, work))
		}
		for _, node := range nodes {
			before := terms.Load()
			dbtest.Eventually(t, "five more terms", func() bool { return terms.Load() >= before+5 })
			node.stop()
		}
		db := dbtest.DB(t, dsn, nil)
		dbtest.Eventually(t, "all connections are gone", func() bool { return mySessions(t, db) == 1 })
	})
}

func TestRowsOfTheLastLeaderAreFreeOnceTheNextHasTheLock(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		if _, err := dbtest.DB(t, dsn, nil).ExecContext(within(t), `CREATE TABLE rows_ (n int PRIMARY KEY) ENGINE=InnoDB`); err != nil {
			t.Fatal(err)
		}
		locker := mysqllock.New(myConfig(t, dsn), myKey(t), "")
		last, next := open(t, locker), open(t, locker)
		if !lock(t, last) {
			t.Fatal("no lock")
		}
		stmts := []string{`START TRANSACTION`, `INSERT INTO rows_ VALUES (0)`}
		for n := 1; n <= 1<<13; n *= 2 { // rolling back takes its time
			stmts = append(stmts, fmt.Sprintf(`INSERT INTO rows_ SELECT n + %d FROM rows_`, n))
		}
		for _, stmt := range stmts {
			if err := mySQL(stmt)(within(t), last.Conn()); err != nil {
				t.Fatal(err)
			}
		}
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			shut(t, last)
		}()
		for !lock(t, next) {
		}
		var n int
		if err := next.Conn().QueryRowContext(within(t), `SELECT count(*) FROM (SELECT n FROM rows_ FOR UPDATE NOWAIT) AS r`).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d rows, %v; want none and none locked", n, err)
		}
		<-closed
	})
}

// mySessions counts the connections to the database, with the caller's.
func mySessions(t testing.TB, db *dbsql.DB) int {
	t.Helper()
	return len(dbtest.Processes(t, db, databaseOf(t, db)))
}

func databaseOf(t testing.TB, db *dbsql.DB) (name string) {
	t.Helper()
	if err := db.QueryRowContext(within(t), `SELECT database()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}

// connected reports whether the server still has that connection to the database.
func connected(t testing.TB, db *dbsql.DB, database string, id int64) bool {
	t.Helper()
	return slices.ContainsFunc(dbtest.Processes(t, db, database), func(p mysqlproc.Process) bool { return p.ID == id })
}

// runs reports whether the server runs a statement that begins so for somebody
// in the caller's database.
func runs(t testing.TB, db *dbsql.DB, begin string) bool {
	t.Helper()
	return slices.ContainsFunc(dbtest.Processes(t, db, databaseOf(t, db)), func(p mysqlproc.Process) bool { return strings.HasPrefix(p.Info, begin) })
}

func TestALongStatementOnMySQLIsNotALostLock(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		terms := make(chan *myTerm)
		results := make(chan error)
		opts := quick
		opts.Timeout = time.Second
		contend(t, mysqllock.New(myConfig(t, s.Database(t)), myKey(t), ""), opts, telling(terms, func(leading context.Context, term *myTerm) error {
			results <- term.Do(leading, patience, mySQL(`SELECT sleep(2)`))
			return lead(leading, term)
		}))
		receive(t, "the term", terms)
		if err := receive(t, "the result", results); err != nil {
			t.Errorf("Do returned %v", err)
		}
	})
}

func TestAStatementOverItsLimitIsStoppedOnTheMySQL(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		for name, listens := range map[string]bool{"listens to its context": true, "does not": false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dsn := s.Database(t)
				results := make(chan error, 1)
				second := make(chan int64, 100)
				contend(t, mysqllock.New(myConfig(t, dsn), myKey(t), ""), quick, func(leading context.Context, term *myTerm) error {
					if term.Number > 1 {
						second <- term.Number
						return lead(leading, term)
					}
					err := term.Do(leading, 50*time.Millisecond, func(ctx context.Context, conn *dbsql.Conn) error {
						if !listens {
							ctx = context.Background()
						}
						// The server does not look after the client meanwhile.
						return mySQL(`SELECT benchmark(100000000000, sha2('x', 512))`)(ctx, conn)
					})
					results <- err
					return err
				})
				if err := receive(t, "the result", results); !errors.Is(err, leader.ErrLost) {
					t.Errorf("Do returned %v, want ErrLost", err)
				}
				receive(t, "the second term", second)
				db := dbtest.DB(t, dsn, nil)
				dbtest.Eventually(t, "only its session and ours are left", func() bool { return mySessions(t, db) == 2 })
			})
		}
	})
}

func TestWorkOnMySQLThatLosesTheLockItselfIsNoticed(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		db := dbtest.DB(t, dsn, nil)
		if _, err := db.ExecContext(within(t), `CREATE TABLE one (n int) ENGINE=InnoDB`); err != nil {
			t.Fatal(err)
		}
		statements := func(all ...string) func(context.Context, *dbsql.Conn) error {
			return func(ctx context.Context, conn *dbsql.Conn) error {
				for _, stmt := range all {
					if err := mySQL(stmt)(ctx, conn); err != nil {
						return err
					}
				}
				return nil
			}
		}
		for name, harm := range map[string]func(context.Context, *dbsql.Conn) error{
			"unlocks":                     statements(`DO release_all_locks()`),
			"leaves a transaction":        statements(`START TRANSACTION`, `INSERT INTO one VALUES (1)`),
			"leaves an empty transaction": statements(`START TRANSACTION`),
			"turns autocommit off":        statements(`SET autocommit = 0`),
			"makes itself read-only":      statements(`SET SESSION TRANSACTION READ ONLY`),
			"kills itself":                statements(`KILL connection_id()`),
			"closes its connection":       func(_ context.Context, conn *dbsql.Conn) error { return conn.Close() },
			"keeps rows":                  keepRows,
		} {
			ends := make(chan error, 100)
			e := contend(t, mysqllock.New(myConfig(t, dsn), myKey(t, name), ""), quick, func(leading context.Context, term *myTerm) error {
				if term.Number > 1 {
					return lead(leading, term)
				}
				err := term.Do(leading, patience, harm)
				ends <- errors.Join(err, context.Cause(leading))
				return err
			})
			if err := receive(t, "the end of the term", ends); !errors.Is(err, leader.ErrLost) {
				t.Errorf("%s: Do returned %v, want ErrLost", name, err)
			}
			e.stop()
		}
		var left int
		if err := db.QueryRowContext(within(t), `SELECT count(*) FROM one`).Scan(&left); err != nil || left != 0 {
			t.Errorf("%d rows, %v: the open transaction was not rolled back", left, err)
		}
	})
}

// keepRows leaves the answer to a query half read.
func keepRows(_ context.Context, conn *dbsql.Conn) error {
	rows, err := conn.QueryContext(context.Background(), `SELECT 1 UNION ALL SELECT 2`)
	if err != nil {
		return err
	}
	rows.Next()
	return rows.Err()
}
