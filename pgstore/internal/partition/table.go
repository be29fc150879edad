package partition

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
)

// Table is the sessions table as this node knows it. Its methods may be called
// concurrently.
type Table struct {
	Known atomic.Pointer[Facts] // never nil

	opts     Options
	queries  queries
	readings *readings
	making   singleflight.Group
}

// Options of a Table.
type Options struct {
	Names        pgschema.Names
	Conns        *db.Conns
	Road         db.Road       // of reads of the catalog, and of making partitions
	WriteTimeout time.Duration // of making a partition
	// Texts, if set, makes what the store keeps with a partition, once for each,
	// from the table's name quoted and qualified.
	Texts func(table string) any
	// Failed is told of what fails that no caller waits for.
	Failed func(doing string, err error)
}

// New reads what the database says of the table.
func New(ctx context.Context, opts Options) (*Table, error) {
	t := &Table{opts: opts, queries: newQueries(opts.Names), readings: newReadings()}
	first, err := t.ask(ctx)
	if err != nil {
		return nil, err
	}
	t.Known.Store(first)
	return t, nil
}

// Now is the database's time as last read, counted on by this node's monotonic
// clock.
func (t *Table) Now() time.Time { return t.Known.Load().Now() }

// Find returns the partition of bucket as far as this node knows, or nil.
func (t *Table) Find(bucket int32) *Partition { return t.Known.Load().Find(bucket) }
