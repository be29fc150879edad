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

var _ sqlstore.Tx = (*tx)(nil)

// tx is the transaction that a write runs in. It has the lock of all writers, so
// what it reads stays, and there is nothing else to lock. Its statements are too
// short to be worth a context.
type tx struct {
	*conn
	s    *Store
	lost error // of the op
}

func (t *tx) Lost() error { return t.lost }

// now is the time by which a transaction decides, read under its lock and as
// precise as what is stored.
func (t *tx) now() time.Time { return storekit.Expiry(t.s.Now()) }

func (t *tx) Now() (time.Time, error) { return t.now(), nil }

func (t *tx) Admit(string, bool) (time.Time, error) { return t.now(), nil }

func (t *tx) Lock(hash [32]byte) (*sqlrow.Row, error) {
	return t.find(find, session.Key{Hash: hash}, t.now)
}

func (t *tx) Find(key session.Key) (*sqlrow.Row, error) { return t.find(find, key, t.now) }

func (t *tx) LockAll(rows []*sqlrow.Row) ([]*sqlrow.Row, error) { return rows, nil }

func (t *tx) OfUser(user string) (rows []*sqlrow.Row, err error) {
	return t.rows(ofUserBare, user)
}

func (t *tx) Page(user string, after int64, most int) (page sqlstore.Page, err error) {
	var rows []*sqlrow.Row
	if user == "" {
		rows, err = t.rows(pageToEnd, after, int64(most))
	} else {
		rows, err = t.rows(pageOfUser, user, after, int64(most))
	}
	for _, r := range rows {
		page.Last = r.ID
		if r.Ended.IsZero() {
			page.Rows = append(page.Rows, r)
		}
	}
	page.Full = len(rows) == most
	return page, err
}

func (t *tx) rows(q query, args ...any) (rows []*sqlrow.Row, err error) {
	now := t.now()
	err = t.query(context.Background(), q, func(v []driver.Value) error {
		r, err := rowOf(v, now)
		rows = append(rows, r)
		return err
	}, args...)
	return rows, err
}

func (t *tx) Insert(rec session.Record, keptTo int32) error {
	bucket := session.BucketOf(rec.Deadline)
	n, err := t.exec(insert, rec.Key.Hash[:], int64(bucket), int64(max(bucket, keptTo)), rec.Version,
		storekit.Micros(rec.Expires), storekit.Micros(rec.Deadline), storekit.Micros(rec.Created),
		nullText(rec.User), sqlrow.NullBytes(rec.Data))
	if err == nil && n == 0 {
		err = session.ErrExists
	}
	return err
}

func (t *tx) Save(r *sqlrow.Row, rec session.Record) error {
	_, err := t.exec(save, r.ID, storekit.Micros(rec.Expires), sqlrow.NullBytes(rec.Data), rec.Version)
	return err
}

func (t *tx) Touch(r *sqlrow.Row, expires time.Time) error {
	_, err := t.exec(touch, r.ID, storekit.Micros(expires))
	return err
}

func (t *tx) End(rows ...*sqlrow.Row) error {
	for _, r := range rows {
		if _, err := t.exec(end, r.ID, storekit.Micros(r.Now)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) Renew(r *sqlrow.Row, to session.Key, until time.Time) error {
	_, err := t.exec(renewed, r.ID, storekit.Micros(r.Now), to.Hash[:], storekit.Micros(until))
	return err
}
