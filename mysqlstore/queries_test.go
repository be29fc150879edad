package mysqlstore

import (
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
)

func TestEveryStatementIsOneForBothServers(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, srv *dbtest.MySQLServer) {
		p := migrated(t, srv)
		n, err := migrations.NamesOf(migrations.DefaultTable)
		if err != nil {
			t.Fatal(err)
		}
		texts := newQueries(names{n.Sessions, n.Meta, n.Users})
		conn, err := p.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		prepared := 0
		for q, sql := range texts {
			if q.size > 16 && q.size != maxSize { // they differ in length alone
				continue
			}
			stmt, err := conn.PrepareContext(t.Context(), sql)
			if err != nil {
				t.Errorf("%v: %v\n%s", q, err, sql)
				continue
			}
			prepared++
			if err := stmt.Close(); err != nil {
				t.Error(err)
			}
		}
		if want := int(lockSome); prepared < want {
			t.Errorf("%d statements were prepared; want at least %d", prepared, want)
		}
	})
}

func TestSizesAreThoseThatThereAreStatementsFor(t *testing.T) {
	t.Parallel()
	texts := newQueries(names{"s", "m", "u"})
	for n := 1; n <= maxSize; n++ {
		size := sizeFor(n)
		if size < n || size >= 2*n && n > 1 || texts.of(text{lockSome, size}) == "" {
			t.Errorf("for %d sessions there is no statement for %d", n, size)
		}
	}
}
