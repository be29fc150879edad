package nodestore

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sojourn-go/sojourn/session"
)

// Get returns the session of an ID. It fails with session.ErrNotFound when
// there is no session, when it has expired by this machine's clock, or when the
// row has no document: what JavaScript takes for false is none. It fails so too
// when the row has no expiry and the layout wants one. It fails with
// session.ErrUndecodable when the document is not a JSON object, unless the layout
// destroys such a session: see Layout.DestroysBroken.
//
// The IDs must be the same byte for byte, whatever the column's collation says.
// No ID makes Get fail: one that no row can have is not found.
func (s *Store) Get(ctx context.Context, id string) (Entry, error) {
	start := time.Now()
	s.countRequest()
	e, err := s.get(ctx, id)
	return e, s.done("get", start, err, id)
}

func (s *Store) get(ctx context.Context, id string) (Entry, error) {
	if err := s.begun(ctx); err != nil {
		return Entry{}, err
	}
	e, err := s.find(ctx, id)
	if err == nil {
		err = readable(e.Data)
	}
	if errors.Is(err, errNotJSON) && s.layout.DestroysBroken {
		err = cmp.Or(s.destroyBroken(ctx, e), session.ErrNotFound)
	}
	if err != nil {
		return Entry{}, err
	}
	return e, nil
}

// destroyBroken removes a row, unless somebody has written it meanwhile.
func (s *Store) destroyBroken(ctx context.Context, e Entry) error {
	return before(s.retry(ctx, func() error {
		_, err := s.exec(ctx, nil, s.q.end, values{
			"id": s.layout.IDPrefix + e.ID, "old": string(e.Data), "now": s.bindNow(s.clock()),
		})
		return err
	}))
}

var errNotJSON = fmt.Errorf("%w: not JSON", session.ErrUndecodable)

// find returns a live row as it is.
func (s *Store) find(ctx context.Context, id string) (e Entry, err error) {
	key, err := s.key(id)
	if err != nil {
		return Entry{}, session.ErrNotFound
	}
	now := s.clock()
	found := false
	begin := func() { found = false }
	err = s.query(ctx, s.q.get, values{"id": key, "now": s.bindNow(now)}, begin, func(rows *sql.Rows) error {
		var stored string
		if stored, e, err = s.scan(rows); err != nil {
			return err
		}
		found = stored == key
		return nil
	})
	switch {
	case isForeign(err):
		return Entry{}, session.ErrNotFound
	case err != nil:
		return Entry{}, err
	case !found || !s.live(e.Expires, now):
		return Entry{}, session.ErrNotFound
	}
	return e, nil
}

// scan reads a row of the queries get and page. The ID it returns has its
// prefix.
func (s *Store) scan(rows *sql.Rows) (stored string, e Entry, err error) {
	var expires sql.NullInt64
	if err := rows.Scan(&stored, &e.Data, &expires); err != nil {
		return "", Entry{}, err
	}
	e.ID = strings.TrimPrefix(stored, s.layout.IDPrefix)
	if expires.Valid {
		e.Expires = s.layout.Expires.time(expires.Int64)
	}
	return stored, e, nil
}

// readable says what is wrong with a document that was read.
func readable(data []byte) error {
	switch data = bytes.TrimSpace(data); {
	case !json.Valid(data) && len(data) > 0:
		return errNotJSON
	case !truthy(data):
		return session.ErrNotFound
	case data[0] != '{':
		return fmt.Errorf("%w: JSON, but not an object", session.ErrUndecodable)
	}
	return nil
}

// key is what the column holds for an ID. It fails for an ID that no row can
// have.
func (s *Store) key(id string) (string, error) {
	switch {
	case id == "":
		return "", invalid("the ID is empty")
	case !utf8.ValidString(id):
		return "", invalid("the ID is not UTF-8")
	case strings.ContainsRune(id, 0):
		return "", invalid("the ID has a NUL")
	}
	key := s.layout.IDPrefix + id
	if n := int64(utf8.RuneCountInString(key)); s.table.maxID > 0 && n > s.table.maxID {
		return "", fmt.Errorf("%w: the ID has %d characters with its prefix; the column holds %d", session.ErrTooLarge, n, s.table.maxID)
	}
	return key, nil
}

// live reports whether a row with that expiry is.
func (s *Store) live(expires, now time.Time) bool {
	if expires.IsZero() {
		return s.layout.NullLives
	}
	clock := s.layout.Clock.round(now, now)
	return expires.After(clock) || s.layout.LiveAtExpiry && expires.Equal(clock)
}
