package nodestore

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// BenchmarkStore compares with the plainest statement that reads or writes a row
// of the same table.
func BenchmarkStore(b *testing.B) {
	b.Run("postgres", func(b *testing.B) {
		benchmark(b, openOn(b, postgresDB(b, "UTC"), ConnectPGSimple(), created(quietly), time.Now))
	})
	b.Run("mariadb", func(b *testing.B) {
		benchmark(b, openOn(b, mysqlDB(b, dbtest.MariaDB(b), nil), ExpressMySQLSession(), created(quietly), time.Now))
	})
	b.Run("sqlite", func(b *testing.B) { benchmark(b, openOn(b, sqliteDB(b), ConnectSQLite(), created(quietly), time.Now)) })
}

func benchmark(b *testing.B, s *Store) {
	ctx, now := b.Context(), time.Now()
	more := fmt.Sprintf(`,"text":"%0500d","n":`, 0)
	e := mustCreate(b, s, "session", doc(now, more+"0"))
	c := newCompiler(s.layout, s.table, nil)
	plain := map[string]*query{
		"get":   c.compile(`SELECT {id}, {data}, {expires} FROM {table} WHERE {id} = {:id}`),
		"write": c.compile(`UPDATE {table} SET {data} = {:data}` + s.table.dataCast + ` WHERE {id} = {:id}`),
	}
	key, _ := s.key("session")
	for name, q := range plain {
		if s.dialect.prepares {
			stmt, err := s.db.PrepareContext(ctx, q.text)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = stmt.Close() })
			q.stmt = stmt
		}
		b.Run("plain/"+name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				v := values{"id": key, "data": string(doc(now, more+fmt.Sprint(i)))}
				var err error
				if name == "get" {
					var id, data string
					var expires any
					err = s.each(ctx, nil, q, v, func(rows *sql.Rows) error { return rows.Scan(&id, &data, &expires) })
				} else {
					_, err = s.exec(ctx, nil, q, v)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("get", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Get(ctx, "session"); err != nil {
				b.Fatal(err)
			}
		}
	})
	e, err := s.Get(ctx, "session")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("save", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if e, err = s.Save(ctx, e, doc(now, more+fmt.Sprint(i)), time.Time{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("set", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if err := s.Set(ctx, "session", doc(now, more+fmt.Sprint(i))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("touch", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if found, err := s.Touch(ctx, "session", now.Add(day+time.Duration(i)*time.Second)); !found || err != nil {
				b.Fatal(found, err)
			}
		}
	})
}
