package pgstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore"
	"github.com/sojourn-go/sojourn/session"
)

// README.md shows this function.
func visit(ctx context.Context, pool *pgxpool.Pool) error {
	if err := migrations.UpFromPool(ctx, pool, migrations.Config{}); err != nil {
		return err
	}
	store, err := pgstore.New(ctx, pool, pgstore.Options{})
	if err != nil {
		return err
	}
	defer store.Close(ctx)

	deadline := store.Now().Add(12 * time.Hour) // by the database's clock
	id := session.NewID(deadline)               // id.Secret() goes into the cookie, and nowhere else
	rec, err := store.Create(ctx, session.Record{
		Key: id.Key(), Deadline: deadline, User: "alice", Data: []byte(`{"theme":"dark"}`)})
	if err != nil {
		return err
	}
	rec.Data = []byte(`{"theme":"light"}`)
	if _, err = store.Save(ctx, rec); err != nil { // ErrConflict: another node was faster
		return err
	}
	_, err = store.DestroyUser(ctx, "alice") // log out everywhere
	return err
}

func TestTheExampleOfTheReadmeWorks(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t, dbtest.Postgres(t).Database(t), nil)
	if err := visit(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
}
