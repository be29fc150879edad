package mysqllock

import (
	"context"
	"errors"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// TestAConnectionThatAnswersForAnotherIsAPooler makes a session expect the answers
// of another connection, as if it went through a pooler.
func TestAConnectionThatAnswersForAnotherIsAPooler(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		ctx, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
		defer cancel()
		dsn := s.Database(t)
		config, err := mysql.ParseDSN(dsn)
		if err != nil {
			t.Fatal(err)
		}
		key := leader.Key(t.Name())
		open := func() *session {
			opened, err := New(config, key, "").Open(ctx, leader.MinSilence)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
				defer cancel()
				if err := opened.Close(ctx); err != nil {
					t.Error(err)
				}
			})
			return opened.(*session)
		}

		first := open()
		first.id++
		if ok, err := first.TryLock(ctx); ok || !errors.Is(err, leader.ErrPooled) {
			t.Errorf("TryLock returned %v, %v; want ErrPooled", ok, err)
		}
		if _, err := Holder(ctx, dbtest.DB(t, dsn, nil), key); !errors.Is(err, leader.ErrNoLeader) {
			t.Errorf("the connection was left with the lock: %v", err)
		}
		second := open()
		if ok, err := second.TryLock(ctx); !ok || err != nil {
			t.Fatalf("TryLock returned %v, %v; want the lock", ok, err)
		}
		second.id++
		if err := second.Verify(ctx); !errors.Is(err, leader.ErrPooled) {
			t.Errorf("Verify returned %v, want ErrPooled", err)
		}
	})
}
