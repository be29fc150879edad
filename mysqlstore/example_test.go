package mysqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
	"github.com/sojourn-go/sojourn/mysqlstore"
	"github.com/sojourn-go/sojourn/session"
)

// A login, a change and a logout everywhere, on a database of one's own.
func visit(ctx context.Context, db *sql.DB) error {
	if err := migrations.Up(ctx, db, migrations.Config{}); err != nil {
		return err
	}
	store, err := mysqlstore.New(ctx, db, mysqlstore.Options{})
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
	n, err := store.DestroyUser(ctx, "alice") // log out everywhere
	if err == nil && n != 1 {
		err = fmt.Errorf("%d sessions were ended", n)
	}
	return err
}

func TestTheExampleWorks(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		db, err := sql.Open("mysql", srv.Database(t))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := visit(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	})
}
