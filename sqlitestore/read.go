package sqlitestore

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

var _ sqlstore.Reader = reader{}

// reader reads what is committed, by a connection for reading.
type reader struct{ *conn }

func (r reader) Find(_ context.Context, key session.Key) (*sqlrow.Row, error) {
	return r.find(get, key, r.now)
}

// find returns the row of key, dead or alive, or nil, as it is at the time that now
// tells. It is too short to be worth a context.
func (c *conn) find(with query, key session.Key, now func() time.Time) (r *sqlrow.Row, err error) {
	err = c.query(context.Background(), with, func(v []driver.Value) error {
		r, err = rowOf(v, now())
		return err
	}, key.Hash[:])
	if err != nil || r == nil || !r.Is(key) {
		return nil, err
	}
	r.Rec.Key.Hash = key.Hash
	return r, nil
}

func (r reader) Count(ctx context.Context, user string) (int64, error) {
	now := storekit.Micros(r.now())
	if user == "" {
		return r.maybeNumber(ctx, count, now)
	}
	return r.maybeNumber(ctx, countUser, user, now)
}

// maybeNumber reads one number, which is 0 for NULL.
func (c *conn) maybeNumber(ctx context.Context, q query, args ...any) (n int64, err error) {
	err = c.query(ctx, q, func(v []driver.Value) error {
		scan := scanner(v)
		n, _ = scan.MaybeNumber()
		return scan.Err
	}, args...)
	return n, err
}

func (r reader) OfUser(ctx context.Context, user string, after session.Record, most int, visit func(*sqlrow.Row)) error {
	return r.each(ctx, ofUser, visit, user, storekit.Micros(r.now()), storekit.Micros(after.Created), after.Key.Hash[:], int64(most))
}

func (r reader) Sessions(ctx context.Context, after int64, most int, visit func(*sqlrow.Row)) error {
	return r.each(ctx, page, visit, after, storekit.Micros(r.now()), int64(most))
}

func (r reader) each(ctx context.Context, q query, visit func(*sqlrow.Row), args ...any) error {
	now := r.now()
	return r.query(ctx, q, func(v []driver.Value) error {
		row, err := rowOf(v, now)
		if err == nil {
			visit(row)
		}
		return err
	}, args...)
}

func (r reader) Keys(ctx context.Context, after int64, most int, visit func(int64, session.Key)) error {
	return r.query(ctx, pageKeys, func(v []driver.Value) error {
		scan := scanner(v)
		id := scan.Number()
		key := session.Key{Hash: scan.Hash(), Bucket: int32(scan.Number())}
		if scan.Err == nil {
			visit(id, key)
		}
		return scan.Err
	}, after, storekit.Micros(r.now()), int64(most))
}
