package mysqlstore

import (
	"context"
	"database/sql/driver"
	"time"
)

// facts are what the database says about itself: its time, and what the meta
// table holds.
type facts struct {
	now     time.Time
	longest time.Duration // see Options
	grace   time.Duration // the retire grace in force
	latest  turn
}

func (c *conn) facts(ctx context.Context) (f facts, err error) {
	err = c.query(ctx, one(readFacts), func(v []driver.Value) error {
		scan := scanner{values: v}
		f.now = scan.time()
		f.longest = time.Duration(scan.number()) * time.Hour
		f.grace = time.Duration(scan.number()) * time.Second
		f.latest = turn{at: scan.maybeTime(), by: string(scan.bytes()), sweptTo: scan.number()}
		return scan.err
	})
	return f, err
}

// forgotten is the time before which nobody needs to remember what died.
func (f facts) forgotten() time.Time { return f.now.Add(-f.grace) }
