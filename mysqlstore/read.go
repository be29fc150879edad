package mysqlstore

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

var _ sqlstore.Reader = reader{}

// reader reads what is committed.
type reader struct{ *conn }

func (r reader) Find(ctx context.Context, key session.Key) (*sqlrow.Row, error) {
	return r.find(ctx, get, key)
}

// find returns the row of key, dead or alive, or nil.
func (c *conn) find(ctx context.Context, with query, key session.Key) (r *sqlrow.Row, err error) {
	err = c.query(ctx, one(with), func(v []driver.Value) error {
		r, err = rowOf(v)
		return err
	}, key.Hash[:])
	if err != nil || r == nil || !r.Is(key) {
		return nil, err
	}
	r.Rec.Key.Hash = key.Hash
	return r, nil
}

func (r reader) Count(ctx context.Context, user string) (int64, error) {
	if user == "" {
		return r.maybeNumber(ctx, count)
	}
	return r.maybeNumber(ctx, countUser, []byte(user))
}

// maybeNumber reads one number, which is 0 for NULL.
func (c *conn) maybeNumber(ctx context.Context, q query, args ...any) (n int64, err error) {
	err = c.query(ctx, one(q), func(v []driver.Value) error {
		scan := scanner(v)
		n, _ = scan.MaybeNumber()
		return scan.Err
	}, args...)
	return n, err
}

func (r reader) OfUser(ctx context.Context, user string, after session.Record, most int, visit func(*sqlrow.Row)) error {
	created := storekit.Micros(after.Created)
	return r.eachRow(ctx, ofUser, visit, []byte(user), created, created, after.Key.Hash[:], int64(most))
}

func (r reader) Sessions(ctx context.Context, after int64, most int, visit func(*sqlrow.Row)) error {
	return r.eachRow(ctx, page, visit, after, int64(most))
}

func (c *conn) eachRow(ctx context.Context, q query, visit func(*sqlrow.Row), args ...any) error {
	return c.query(ctx, one(q), func(v []driver.Value) error {
		r, err := rowOf(v)
		if err == nil {
			visit(r)
		}
		return err
	}, args...)
}

func (r reader) Keys(ctx context.Context, after int64, most int, visit func(int64, session.Key)) error {
	return r.query(ctx, one(pageKeys), func(v []driver.Value) error {
		scan := scanner(v)
		id := scan.Number()
		key := session.Key{Hash: scan.Hash(), Bucket: int32(scan.Number())}
		if scan.Err == nil {
			visit(id, key)
		}
		return scan.Err
	}, after, int64(most))
}

// read calls f with a connection for lookups, and again when that was lost.
func (s *Store) read(ctx context.Context, f func(*conn) error) error {
	return s.ask(ctx, s.reads, f)
}

// askAgain is how often a question is repeated: each connection may have been
// lost since it was used last.
const askAgain = 3

func (s *Store) ask(ctx context.Context, g *gate, f func(*conn) error) error {
	if err := s.engine.Begun(ctx); err != nil {
		return err
	}
	until := time.Now().Add(s.opts.WriteTimeout)
	for try := 1; ; try++ {
		err := g.do(ctx, f)
		if err == nil || storekit.IsRefusal(err) {
			return err
		}
		again := false
		switch outcomeOf(err) {
		case txCut, txOpen:
			again = try < askAgain
		case txConflict, txBusy:
			again = time.Now().Before(until)
		}
		if !again || !storekit.Backoff().Pause(ctx, try) {
			return wait.Because(ctx, err)
		}
	}
}
