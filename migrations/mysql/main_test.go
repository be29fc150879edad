package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// childEnv tells a test binary to migrate the database of that name and to end,
// and childStatementEnv to run that statement after the first one.
const (
	childEnv          = "SOJOURN_MIGRATE_MYSQL_CHILD"
	childStatementEnv = "SOJOURN_MIGRATE_MYSQL_STATEMENT"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(childEnv); dsn != "" {
		if err := migrateAsChild(dsn); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dbtest.Main(m)
}

func migrateAsChild(dsn string) error {
	ctx, cancel := context.WithTimeout(context.Background(), dbtest.Patience)
	defer cancel()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	if _, err := fmt.Println("ready"); err != nil {
		return err
	}
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil { // go
		return err
	}
	fsys := FS()
	if stmt := os.Getenv(childStatementEnv); stmt != "" {
		if fsys, err = with(1, stmt); err != nil {
			return err
		}
	}
	if err := up(ctx, db, Config{}, fsys); err != nil {
		return err
	}
	return db.Close()
}

// with returns the first migration of the zero Config with a statement of its own
// after n of it.
func with(n int, stmt string) (fs.FS, error) {
	statements, err := load()
	if err != nil {
		return nil, err
	}
	text := strings.Join(slices.Insert(statements, n, stmt), ";\n") + ";\n"
	return fstest.MapFS{"001_sessions.sql": {Data: []byte(text)}}, nil
}

// load returns the statements of the first migration of the zero Config.
func load() ([]string, error) {
	cfg := Config{}.withDefaults()
	n, err := cfg.names()
	if err != nil {
		return nil, err
	}
	steps, err := n.steps(FS(), cfg.Settings)
	if err != nil {
		return nil, err
	}
	return steps[0].Statements, nil
}
