package nodestore

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/sojourn-go/sojourn/internal/jsonobject"
	"github.com/sojourn-go/sojourn/session"
)

// Set creates a session or replaces it, the row that has expired included, as
// the package's set does: the last one wins. The expiry is what Expiry says, or
// what an option does; one that has passed destroys the session.
//
// It is session.ErrExists when the column's collation takes another session's
// ID for the same. To change a session that was read use Save.
func (s *Store) Set(ctx context.Context, id string, data []byte, opts ...SetOption) error {
	start := time.Now()
	var o setOptions
	for _, opt := range opts {
		opt(&o)
	}
	return s.done("set", start, written(ctx, s.set(ctx, id, data, o)), id)
}

func (s *Store) set(ctx context.Context, id string, data []byte, o setOptions) error {
	now := s.clock()
	if o.expires.IsZero() && o.ttl != 0 {
		o.expires = now.Add(o.ttl)
	}
	w, err := s.prepare(ctx, id, data, o.expires, now)
	if err != nil {
		return err
	}
	if w.ends {
		n, err := s.destroy(ctx, w.id)
		if o.destroyed != nil {
			*o.destroyed = n
		}
		return err
	}
	return s.retry(ctx, func() error {
		n, _, err := s.write(ctx, nil, s.q.set, w.values)
		taken := err == nil && n == 0 && !s.dialect.countsChanges
		if answerOf(err).mysql == mysqlNull { // of that column or of another
			holder, found := s.holder(ctx, nil, w.key)
			taken = found && holder != w.key
		}
		if taken {
			return fmt.Errorf("%w: the column's collation takes another ID for the same", session.ErrExists)
		}
		return err
	})
}

// holder is whose row the column's collation finds for a key.
func (s *Store) holder(ctx context.Context, tx *sql.Tx, key string) (holder string, found bool) {
	err := s.each(ctx, tx, s.q.holder, values{"id": key}, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(&holder)
	})
	return holder, found && err == nil
}

// Create makes a new session. expires is as in Save. It is session.ErrExists
// when the ID is in use, also by a session that has expired, and
// session.ErrDeadline when expires has passed.
func (s *Store) Create(ctx context.Context, id string, data []byte, expires time.Time) (Entry, error) {
	start := time.Now()
	e, err := s.create(ctx, id, data, expires)
	return e, s.done("create", start, written(ctx, err), id)
}

func (s *Store) create(ctx context.Context, id string, data []byte, expires time.Time) (Entry, error) {
	w, err := s.prepare(ctx, id, data, expires, s.clock())
	if err != nil {
		return Entry{}, err
	}
	if w.ends {
		return Entry{}, errPast
	}
	var e Entry
	err = s.retry(ctx, func() (err error) {
		e, err = s.insert(ctx, nil, w)
		return err
	})
	return e, err
}

var errPast = fmt.Errorf("%w: the expiry has passed", session.ErrDeadline)

// insert makes the row of a session.
func (s *Store) insert(ctx context.Context, tx *sql.Tx, w *writing) (Entry, error) {
	n, stored, err := s.write(ctx, tx, s.q.insert, w.values)
	switch {
	case answerOf(err).mysql == mysqlDuplicate:
		if _, found := s.holder(ctx, tx, w.key); found { // no other unique index said so
			err = session.ErrExists
		}
		return Entry{}, err
	case err != nil:
		return Entry{}, err
	case n == 0:
		return Entry{}, session.ErrExists
	}
	return Entry{ID: w.id, Data: stored, Expires: w.expires}, nil
}

// Save replaces the document of a session that was read, and its expiry: expires
// or, where that is zero, what Expiry says. An expiry that has passed ends the
// session; the Entry is then the one that was ended.
//
// It fails with session.ErrConflict when the document in the row is no longer
// what was read, whether Go or Node changed it; get it again and repeat the
// change. It fails with session.ErrNotFound when the session is gone or has
// expired: Save never makes one. A touch meanwhile is no conflict.
func (s *Store) Save(ctx context.Context, read Entry, data []byte, expires time.Time) (Entry, error) {
	start := time.Now()
	e, err := s.save(ctx, read, data, expires)
	return e, s.done("save", start, written(ctx, err), read.ID)
}

func (s *Store) save(ctx context.Context, read Entry, data []byte, expires time.Time) (Entry, error) {
	w, err := s.prepare(ctx, read.ID, data, expires, s.clock())
	if err != nil {
		return Entry{}, err
	}
	w.values["old"] = string(read.Data)
	for try := 1; ; try++ {
		w.values["now"] = s.bindNow(s.clock())
		var n int64
		var stored []byte
		err := s.retry(ctx, func() (err error) {
			if w.ends {
				n, err = s.exec(ctx, nil, s.q.end, w.values)
			} else {
				n, stored, err = s.write(ctx, nil, s.q.save, w.values)
			}
			return err
		})
		if err != nil {
			return Entry{}, err
		}
		if w.ends {
			stored = []byte(w.data)
		}
		if n > 0 {
			return Entry{ID: read.ID, Data: stored, Expires: w.expires}, nil
		}
		row, err := s.why(ctx, read)
		switch {
		case err != nil:
			return Entry{}, err
		case s.dialect.countsChanges && !w.ends && string(row.Data) == w.data && row.Expires.Equal(w.expires):
			return row, nil // there was nothing to change
		case try == tries: // it changes to and fro
			return Entry{}, session.ErrConflict
		}
	}
}

// why finds out why a write that compares did nothing. Without an error the
// comparison would succeed by now.
func (s *Store) why(ctx context.Context, read Entry) (Entry, error) {
	row, err := s.find(ctx, read.ID)
	if err == nil && !bytes.Equal(row.Data, read.Data) {
		err = session.ErrConflict
	}
	return row, err
}

// writing is a document that is to be written.
type writing struct {
	id, key string
	data    string // as the column will print it, where the database cannot tell later
	expires time.Time
	ends    bool // the expiry has passed
	values  values
}

// prepare checks what a write is given.
func (s *Store) prepare(ctx context.Context, id string, data []byte, expires, now time.Time) (*writing, error) {
	if err := s.begun(ctx); err != nil {
		return nil, err
	}
	key, err := s.key(id)
	if err != nil {
		return nil, err
	}
	if err := s.fits(data); err != nil {
		return nil, err
	}
	if expires.IsZero() {
		expires, err = s.expiry(data, now)
	} else {
		expires, err = s.storable(expires, now)
	}
	if err != nil {
		return nil, err
	}
	w := &writing{id: id, key: key, data: string(data), expires: expires, ends: !s.live(expires, now)}
	if w.ends {
		w.values = values{"id": key}
		return w, nil
	}
	if s.table.dataJSON {
		if w.data, err = s.printed(ctx, w.data); err != nil {
			return nil, err
		}
	}
	w.values = values{
		"id": key, "data": w.data, "expires": s.bindExpiry(expires),
		"now": s.bindNow(now), "stamp": s.bindStamp(now),
	}
	for i, column := range s.extra {
		if w.values[nth("extra", i)], err = s.opts.Extra[column](data); err != nil {
			return nil, fmt.Errorf("%w: Options.Extra[%q]: %w", session.ErrInvalid, column, err)
		}
	}
	return w, nil
}

// Fits is nil if the store takes a document of that size and shape. Else it says
// why not, as Create and Save do, with the limit. It asks nobody.
func (s *Store) Fits(data []byte) error { return wrap("fits", s.fits(data)) }

// fits says what is wrong with a document that is to be written.
func (s *Store) fits(data []byte) error {
	limit := int64(s.opts.MaxData)
	if s.table.maxData > 0 {
		limit = min(limit, s.table.maxData)
	}
	switch {
	case int64(len(data)) > limit:
		return fmt.Errorf("%w: the document has %d bytes; the limit is %d", session.ErrTooLarge, len(data), limit)
	case !utf8.Valid(data):
		return invalid("the document is not UTF-8")
	case !json.Valid(data) || bytes.TrimSpace(data)[0] != '{':
		return invalid("the document is not a JSON object")
	}
	if n := jsonobject.Depth(data); s.table.dataJSON && n > mysqlDepth {
		return invalid("the document is nested %d deep; a JSON column of MySQL takes %d", n, mysqlDepth)
	}
	return nil
}

// mysqlDepth is how deep a document in a JSON column may be nested (MySQL's
// manual, "The JSON Data Type").
const mysqlDepth = 100

// printed is how a JSON column of MySQL prints a document.
func (s *Store) printed(ctx context.Context, data string) (out string, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT CAST(CAST(? AS JSON) AS CHAR)`, data).Scan(&out)
	return out, before(err)
}
