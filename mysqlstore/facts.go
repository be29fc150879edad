package mysqlstore

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlstore"
)

// facts are what the database says about itself: its time, and what the meta
// table holds.
type facts struct {
	now     time.Time
	longest time.Duration // see Options
	grace   time.Duration // the retire grace in force
	latest  sqlstore.Turn
}

func (c *conn) facts(ctx context.Context) (f facts, err error) {
	err = c.query(ctx, one(readFacts), func(v []driver.Value) error {
		scan := scanner(v)
		f.now = scan.Time()
		f.longest = time.Duration(scan.Number()) * time.Hour
		f.grace = time.Duration(scan.Number()) * time.Second
		f.latest = sqlstore.Turn{At: scan.MaybeTime(), By: scan.Text(), SweptTo: scan.Number()}
		return scan.Err
	})
	return f, err
}

// forgotten is the time before which nobody needs to remember what died.
func (f facts) forgotten() time.Time { return f.now.Add(-f.grace) }
