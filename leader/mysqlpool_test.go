package leader_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/mysqllock"
)

func TestALockerFromAPoolTakesAConnectionAndNeverGivesItBack(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := dbtest.DB(t, s.Database(t), nil)
		db.SetConnMaxLifetime(time.Millisecond) // of those that lie idle
		locker := mysqllock.FromPool(db, myKey(t))
		first, second := open(t, locker), open(t, locker)
		if !lock(t, first) || lock(t, second) {
			t.Fatal("want the first session to have the lock, the second not")
		}
		id := connectionID(t, first)
		if err := first.Verify(within(t)); err != nil {
			t.Error(err)
		}
		if info, err := mysqllock.Holder(within(t), db, myKey(t)); err != nil || info.ID != id {
			t.Errorf("the holder is %+v, %v; want %d", info, err, id)
		}
		shut(t, first)
		if !lock(t, second) {
			t.Error("the lock is still taken")
		}
		dbtest.Eventually(t, "the connection is closed", func() bool { return !connected(t, db, databaseOf(t, db), id) })
		shut(t, second)
		if n := db.Stats().InUse; n != 0 {
			t.Errorf("%d connections are in use", n)
		}
	})
}

func TestAStatementOverItsLimitIsStoppedInAPoolsConnectionToo(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		db := dbtest.DB(t, s.Database(t), nil)
		results := make(chan error, 1)
		again := make(chan struct{}, 100)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			done <- leader.Run(ctx, mysqllock.FromPool(db, myKey(t)), quick, func(leading context.Context, term *myTerm) error {
				if term.Number > 1 {
					again <- struct{}{}
					<-leading.Done()
					return nil
				}
				err := term.Do(leading, 50*time.Millisecond, mySQL(`SELECT sleep(600)`))
				results <- err
				return err
			})
		}()
		if err := receive(t, "the result", results); !errors.Is(err, leader.ErrLost) {
			t.Errorf("Do returned %v, want ErrLost", err)
		}
		receive(t, "the second term", again)
		cancel()
		if err := receive(t, "the end", done); err != nil {
			t.Error(err)
		}
	})
}
