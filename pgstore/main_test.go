package pgstore

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// frozenEnv makes the test binary a node that writes until it is killed.
const frozenEnv = "PGSTORE_TEST_FROZEN"

const frozenUsers = 8

var twoAtMost = session.UserLimit{Max: 2, Evict: true}

// writeUntilKilled logs users in under a limit, and puts.
func writeUntilKilled(dsn, schema string) error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	s, err := New(ctx, pool, Options{Schema: schema, PruneInterval: -1, CacheBytes: -1})
	if err != nil {
		return err
	}
	var writers sync.WaitGroup
	for i := range frozenUsers {
		writers.Go(func() {
			for { // whatever comes of it: most are cut off
				_, _, _ = s.CreateLimited(ctx, fresh(s, fmt.Sprint(i)), twoAtMost)
				_, _ = s.Put(ctx, session.Record{Key: session.ForeignKey("frozen", fmt.Sprint(i)), Data: []byte("x")})
			}
		})
	}
	fmt.Println("writes")
	writers.Wait()
	return nil
}

func TestMain(m *testing.M) {
	if where := os.Getenv(frozenEnv); where != "" {
		dsn, schema, _ := strings.Cut(where, "\n")
		fmt.Fprintln(os.Stderr, writeUntilKilled(dsn, schema))
		os.Exit(1)
	}
	dbtest.Main(m)
}
