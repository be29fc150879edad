package mysqlstore

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

var _ sqlstore.Tx = (*tx)(nil)

// tx is the transaction that a write runs in.
type tx struct {
	*conn
	s    *Store
	ctx  context.Context
	lost error // of an attempt whose outcome is open: this write may be done already
}

func (t *tx) Lost() error { return t.lost }

func (t *tx) Lock(hash [32]byte) (*sqlrow.Row, error) {
	sent := time.Now()
	r, err := t.find(t.ctx, lock, session.Key{Hash: hash})
	switch {
	case err != nil || r == nil:
		return r, err
	case !t.instant:
		r.Now, err = t.Now()
		return r, err
	}
	t.s.clock.observe(sent, r.Now, time.Now())
	return r, nil
}

func (t *tx) Find(key session.Key) (*sqlrow.Row, error) { return t.find(t.ctx, get, key) }

// Now asks the database for its time.
func (t *tx) Now() (time.Time, error) {
	sent := time.Now()
	micros, err := t.maybeNumber(t.ctx, now)
	if err != nil {
		return time.Time{}, err
	}
	at := storekit.Time(micros)
	t.s.clock.observe(sent, at, time.Now())
	return at, nil
}

func (t *tx) LockAll(found []*sqlrow.Row) ([]*sqlrow.Row, error) {
	hashes := make([][32]byte, len(found))
	for i, r := range found {
		hashes[i] = r.Rec.Key.Hash
	}
	sortHashes(hashes)
	rows, err := t.lockRows(lockEach, hashes)
	if err != nil {
		return nil, err
	}
	var locked []*sqlrow.Row
	for _, f := range found {
		if r := rows[f.Rec.Key.Hash]; r != nil {
			locked = append(locked, r)
		}
	}
	if t.instant {
		return locked, nil
	}
	now, err := t.Now()
	for _, r := range locked {
		r.Now = now
	}
	return locked, err
}

// lockRows locks those rows of hashes, which are sorted, that exist, in that
// order. It returns them, dead or alive.
func (t *tx) lockRows(q query, hashes [][32]byte) (map[[32]byte]*sqlrow.Row, error) {
	rows := make(map[[32]byte]*sqlrow.Row, len(hashes))
	err := t.query(t.ctx, text{q, sizeFor(len(hashes))}, func(v []driver.Value) error {
		r, err := rowOf(v)
		rows[r.Rec.Key.Hash] = r
		return err
	}, hashArgs(nil, hashes)...)
	return rows, err
}

// lockSome is lockRows, but leaves out the rows that others hold.
func (t *tx) lockSome(hashes [][32]byte) (map[[32]byte]*sqlrow.Row, error) {
	sent := time.Now()
	rows, err := t.lockRows(lockSome, hashes)
	if err != nil {
		return rows, err
	}
	for _, r := range rows {
		t.s.clock.observe(sent, r.Now, time.Now())
		break
	}
	return rows, nil
}

func (t *tx) OfUser(user string) (rows []*sqlrow.Row, err error) {
	err = t.eachRow(t.ctx, keysOfUser, func(r *sqlrow.Row) { rows = append(rows, r) }, []byte(user))
	return rows, err
}

func (t *tx) Page(user string, after int64, most int) (page sqlstore.Page, err error) {
	q, args := pageToEnd, []any(nil)
	if user != "" {
		q, args = pageOfUser, []any{[]byte(user)}
	}
	seen := 0
	var found [][32]byte
	err = t.query(t.ctx, one(q), func(v []driver.Value) error {
		scan := scanner(v)
		seen++
		page.Last = scan.Number()
		hash := scan.Hash()
		if scan.Number() == 1 {
			found = append(found, hash)
		}
		return scan.Err
	}, append(args, after, int64(most))...)
	page.Full = seen == most
	if err != nil || len(found) == 0 {
		return page, err
	}
	sortHashes(found)
	rows, err := t.lockSome(found)
	for _, hash := range found {
		if r := rows[hash]; r != nil {
			page.Rows = append(page.Rows, r)
		} else {
			page.Held = &hash
		}
	}
	return page, err
}

func (t *tx) Insert(rec session.Record, keptTo int32) error {
	_, err := t.exec(t.ctx, text{insertSome, 1}, insertArgs(nil, rec, keptTo)...)
	answer, _ := errors.AsType[*mysql.MySQLError](err)
	switch {
	case answer == nil || answer.Number != errDuplicate:
		return err
	case strings.HasSuffix(answer.Message, "by_id'"): // the name of the index
		return fmt.Errorf("%w: the table's AUTO_INCREMENT gives numbers that are taken: %w", ErrDamaged, err)
	case t.lost != nil:
		return errLate
	}
	return session.ErrExists
}

// errLate has the write tried once more: what was lost has been done just now.
var errLate = errors.New("an attempt whose answer was lost was still under way")

// insertArgs appends a row.
func insertArgs(args []any, rec session.Record, keptTo int32) []any {
	bucket := session.BucketOf(rec.Deadline)
	return append(args, rec.Key.Hash[:], int64(bucket), int64(max(bucket, keptTo)), rec.Version,
		storekit.Micros(rec.Expires), storekit.Micros(rec.Deadline), storekit.Micros(rec.Created), nullText(rec.User), sqlrow.NullBytes(rec.Data))
}

func (t *tx) Save(r *sqlrow.Row, rec session.Record) error {
	_, err := t.exec(t.ctx, one(save), rec.Version, storekit.Micros(rec.Expires), sqlrow.NullBytes(rec.Data), r.Rec.Key.Hash[:])
	return err
}

func (t *tx) Touch(r *sqlrow.Row, expires time.Time) error {
	_, err := t.exec(t.ctx, one(moveTo), storekit.Micros(expires), r.Rec.Key.Hash[:])
	return err
}

func (t *tx) End(rows ...*sqlrow.Row) error {
	if len(rows) == 0 {
		return nil
	}
	hashes := make([][32]byte, len(rows))
	for i, r := range rows {
		hashes[i] = r.Rec.Key.Hash
	}
	args := hashArgs([]any{storekit.Micros(rows[0].Now)}, hashes)
	_, err := t.exec(t.ctx, text{endSome, sizeFor(len(rows))}, args...)
	return err
}

func (t *tx) Renew(r *sqlrow.Row, to session.Key, until time.Time) error {
	_, err := t.exec(t.ctx, one(renewed), storekit.Micros(r.Now), to.Hash[:], storekit.Micros(until), r.Rec.Key.Hash[:])
	return err
}

func sortHashes(hashes [][32]byte) { slices.SortFunc(hashes, compareHashes) }

func compareHashes(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }

// hashArgs appends hashes as arguments of a statement for sizeFor of them.
func hashArgs(args []any, hashes [][32]byte) []any {
	for i := range sizeFor(len(hashes)) {
		args = append(args, hashes[min(i, len(hashes)-1)][:])
	}
	return args
}
