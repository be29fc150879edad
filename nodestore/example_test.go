package nodestore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// openFile is an SQLite file, as a Node application has one.
func openFile() (*sql.DB, func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(dir, "node.db"))+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
	if err != nil {
		log.Fatal(err)
	}
	return db, func() { _ = errors.Join(db.Close(), os.RemoveAll(dir)) }
}

// A Go service changes a session that Node made, unless Node has changed it
// meanwhile.
func ExampleStore_Save() {
	ctx := context.Background()
	db, done := openFile()
	defer done()
	store, err := nodestore.New(ctx, db, nodestore.ConnectSQLite(), nodestore.Options{CreateTable: true})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = store.Close(ctx) }()

	// What @sailscastshq/connect-sqlite writes.
	_, err = db.ExecContext(ctx, `INSERT INTO sessions (sid, sess, expired) VALUES ('sess:Ef7mJ0aV', '{"cookie":{},"views":1}', ?)`, time.Now().Add(time.Hour).UnixMilli())
	if err != nil {
		log.Fatal(err)
	}

	read, err := store.Get(ctx, "Ef7mJ0aV")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("read %s\n", read.Data)
	saved, err := store.Save(ctx, read, []byte(`{"cookie":{},"views":2}`), read.Expires)
	fmt.Printf("saved %s (%v)\n", saved.Data, err)

	_, err = store.Save(ctx, read, []byte(`{"cookie":{},"views":10}`), read.Expires)
	fmt.Println("save of what was read before:", errors.Is(err, session.ErrConflict))

	_, err = store.Destroy(ctx, "Ef7mJ0aV")
	if err != nil {
		log.Fatal(err)
	}
	_, err = store.Save(ctx, saved, []byte(`{"cookie":{},"views":3}`), saved.Expires)
	fmt.Println("save after a logout:", errors.Is(err, session.ErrNotFound))
	// Output:
	// read {"cookie":{},"views":1}
	// saved {"cookie":{},"views":2} (<nil>)
	// save of what was read before: true
	// save after a logout: true
}

// A package that has no function here: connect-session-knex, whose table is like
// that of connect-pg-simple with other names.
func ExampleLayout() {
	layout := nodestore.ConnectPGSimple()
	layout.Package = "connect-session-knex"
	layout.Table = "sessions"
	layout.Columns.Expires = "expired"
	layout.Write = nodestore.Rounding{To: time.Millisecond}
	layout.Clock = layout.Write
	layout.LiveAtExpiry = false
	layout.DDL = nil // the application makes its table
	fmt.Println(layout)
	// Output: connect-session-knex in sessions
}

// The column userId, to find all sessions of a user by a query of one's own.
func ExampleField() {
	opts := nodestore.Options{Extra: map[string]func([]byte) (any, error){
		"userId": nodestore.Field("passport", "user"),
	}}
	user, err := opts.Extra["userId"]([]byte(`{"cookie":{},"passport":{"user":"106"}}`))
	fmt.Println(user, err)
	// Output: 106 <nil>
}
