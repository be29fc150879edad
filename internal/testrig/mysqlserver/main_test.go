package mysqlserver

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// each runs a test with each flavour, in parallel.
func each(t *testing.T, test func(t *testing.T, f Flavour)) {
	t.Helper()
	for _, f := range Flavours() {
		t.Run(strings.ToLower(string(f)), func(t *testing.T) {
			t.Parallel()
			skipWithout(t, f)
			test(t, f)
		})
	}
}

func skipWithout(t *testing.T, f Flavour) {
	t.Helper()
	_, err := Find(t.Context(), f)
	if errors.Is(err, ErrNotInstalled) && (f == MySQL || os.Getenv("CI") != "true") {
		t.Skipf("%v; run: %s", err, InstallHint(f))
	}
}

func run(t *testing.T, f Flavour, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), f, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// open opens a pool of one connection that complains to nobody.
func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := openWith(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func openWith(dsn string) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return db, nil
}

func connects(ctx context.Context, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	db, err := openWith(dsn)
	if err != nil {
		return err
	}
	return errors.Join(db.PingContext(ctx), db.Close())
}
