package sqlitestore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sojourn-go/sojourn/session"
	"github.com/sojourn-go/sojourn/sqlitestore"
)

// A store in a file, which is made with its folders and tables.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "sojourn")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	store, err := sqlitestore.Open(ctx, filepath.Join(dir, "data", "sessions.db"), sqlitestore.Options{})
	if err != nil {
		panic(err)
	}
	defer func() { _ = store.Close(ctx) }()

	deadline := store.Now().Add(12 * time.Hour)
	id := session.NewID(deadline) // the browser's; the store sees its key
	rec, err := store.Create(ctx, session.Record{Key: id.Key(), Deadline: deadline, User: "alice", Data: []byte("cart")})
	if err != nil {
		panic(err)
	}
	rec.Data = []byte("cart with a book")
	if _, err := store.Save(ctx, rec); err != nil {
		panic(err)
	}
	rec, err = store.Get(ctx, id.Key())
	fmt.Printf("%s has a %s, %v\n", rec.User, rec.Data, err)

	n, err := store.DestroyUser(ctx, "alice")
	fmt.Println("logged out everywhere:", n, err)
	// Output:
	// alice has a cart with a book, <nil>
	// logged out everywhere: 1 <nil>
}
