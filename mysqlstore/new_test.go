package mysqlstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
	"github.com/sojourn-go/sojourn/session"
)

func TestOptionsOutOfRangeAreNamed(t *testing.T) {
	t.Parallel()
	for field, opts := range map[string]Options{
		"Longest":       {Longest: time.Minute},
		"MaxData":       {MaxData: -1},
		"MaxUser":       {MaxUser: migrations.MaxUser + 1},
		"BatchItems":    {BatchItems: maxSize + 1},
		"BatchBytes":    {BatchBytes: -1},
		"WriteTimeout":  {WriteTimeout: time.Second},
		"Readers":       {Readers: -1},
		"Writers":       {Writers: 1001},
		"RetireGrace":   {RetireGrace: time.Second},
		"RetireGrace+":  {RetireGrace: 1<<63 - 1},
		"WriteTimeout+": {WriteTimeout: 1<<63 - 1},
		"PruneInterval": {PruneInterval: 1<<63 - 1},
		"Table:":        {Table: "a\x00"},
		"NodeName":      {NodeName: "a\x00"},
		"NodeName+":     {NodeName: "\xff"},
	} {
		_, err := New(t.Context(), dbtest.DB(t, "u:p@tcp(127.0.0.1:1)/x", nil), opts)
		if err == nil || !strings.Contains(err.Error(), "Options."+strings.TrimSuffix(field, "+")+" ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		dsn := srv.Database(t)
		_, err := New(t.Context(), dbtest.DB(t, dsn, nil), Options{})
		wantErr(t, "without tables", err, migrations.ErrNotMigrated)
		_, err = New(t.Context(), dbtest.DB(t, srv.DSN(""), nil), Options{})
		wantErr(t, "without a database", err, migrations.ErrInvalid)

		p := migratedAt(t, dsn, nil)
		_, err = New(t.Context(), p.db, Options{Longest: 48 * time.Hour})
		wantErr(t, "with another longest lifetime", err, ErrSettings)
		if _, err := migrations.SetSettings(t.Context(), p.db, migrations.Config{}, migrations.Settings{LongestLifetime: 48 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		openStore(t, p, Options{Longest: 48 * time.Hour, PruneInterval: -1})
		if s := openStore(t, p, quiet); s.Longest() != 48*time.Hour {
			t.Errorf("the longest lifetime is %v", s.Longest())
		}

		few := dbtest.DB(t, dsn, nil)
		few.SetMaxOpenConns(7)
		_, err = New(t.Context(), few, Options{})
		wantErr(t, "with seven connections", err, ErrUnsuitable)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = New(ctx, p.db, Options{})
		wantErr(t, "with a cancelled context", err, context.Canceled)
	})
}

// A small pool is shared with the application, and enough.
func TestHalfOfASmallPoolIsEnough(t *testing.T) {
	t.Parallel()
	p := migrated(t, dbtest.MariaDB(t))
	for _, most := range []int{leastConns, 20} {
		p.db.SetMaxOpenConns(most)
		s := openStore(t, p, Options{NextPrune: eager})
		everything(t, s)
		dbtest.Eventually(t, "it prunes", func() bool { return s.Stats().Leading })
		if n := p.db.Stats().InUse; n > most/2 {
			t.Errorf("of %d connections the store uses %d", most, n)
		}
		closeStore(t, s)
		if n := p.db.Stats().InUse; n != 0 {
			t.Errorf("after Close, %d connections are in use", n)
		}
	}
}

// Names are the user's, and in whatever database is selected later.
func TestTablesAreCalledWhateverTheUserLikes(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		db := pool40(t, srv.Database(t), nil)
		for _, table := range []string{"a`b 'c\"", "сессии", "SELECT"} {
			if err := migrations.Up(t.Context(), db, migrations.Config{Table: table}); err != nil {
				t.Fatal(err)
			}
			everything(t, openStore(t, place{db: db}, Options{Table: table, PruneInterval: -1}))
		}
	})
}

func TestKeysAndErrorsShowNoData(t *testing.T) {
	t.Parallel()
	s := openStore(t, migrated(t, dbtest.MariaDB(t)), quiet)
	rec := newSessionOf(s, strings.Repeat("secret user ", 50))
	_, err := s.Create(t.Context(), rec)
	if !errors.Is(err, session.ErrTooLarge) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Create: %v", err)
	}
	rec.User = "secret user"
	rec = create(t, s, rec)
	_, err = s.Create(t.Context(), rec)
	if !errors.Is(err, session.ErrExists) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Create again: %v", err)
	}
}
