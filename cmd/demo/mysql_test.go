package main

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/dbtest"
)

func TestAGivenMySQLIsLeftAsItWas(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		d := newMySQLDB(dsn)
		if err := d.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if is := strings.HasPrefix(d.about(), mariaDB+" "); is != s.IsMariaDB() || !strings.Contains(d.about(), dsnVariable) {
			t.Errorf("it is %s", d.about())
		}
		if _, err := d.migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		conf := d.node()
		conf.Name = "node 1"
		o, err := openMySQLNode(t.Context(), conf, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		if err := o.close(t.Context()); err != nil {
			t.Error(err)
		}
		if left, err := d.left(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("left: %v, %v", left, err)
		}
		if err := (&mysqlCheck{&check{}, d}).fill(t.Context(), 10); err != nil {
			t.Errorf("fill: %v", err)
		}
		if _, err := d.close(t.Context()); err != nil {
			t.Fatal(err)
		}
		var tables int
		if err := dbtest.DB(t, dsn, nil).QueryRowContext(t.Context(), `SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE()`).Scan(&tables); err != nil {
			t.Fatal(err)
		}
		if tables != 0 {
			t.Errorf("%d tables are left", tables)
		}
	})
}
