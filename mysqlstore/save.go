package mysqlstore

import (
	"context"
	"strconv"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/sqlstore"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

func (f fast) Save(ctx context.Context, rec session.Record, becomes int64, mayEnd bool) (session.Record, error) {
	o := &op{key: rec.Key, rec: rec, becomes: becomes, mayEnd: mayEnd}
	if err := f.s.saves.Do(ctx, o); err != nil {
		return session.Record{}, err
	}
	return o.made, nil
}

func saveManner() manner {
	return manner{name: "save", lone: saveLone, batch: saveBatch, apart: saveApart}
}

// saveLone matches the deadline and the creation time of rec in its WHERE
// clause. So if it writes the row, the values in rec are right, and no second
// query is needed to return them.
func saveLone(t *tx, o *op) (bool, error) {
	rec := o.rec
	if !t.instant {
		return false, nil
	}
	deadline, created := storekit.Expiry(rec.Deadline), storekit.Expiry(rec.Created)
	q, args := one(saveData), []any{o.becomes}
	if !rec.Expires.IsZero() {
		q, args = one(saveAll), append(args, storekit.Micros(rec.Expires))
	}
	args = append(args, sqlrow.NullBytes(rec.Data), rec.Key.Hash[:], int64(rec.Key.Bucket),
		rec.Version, storekit.Micros(deadline), storekit.Micros(created), nullText(rec.User))
	if !rec.Expires.IsZero() {
		args = append(args, storekit.Micros(storekit.Earlier(rec.Expires, deadline)))
	}
	out, err := t.exec(t.ctx, q, args...)
	o.made = rec
	o.made.Version = o.becomes
	o.made.Expires, o.made.Deadline, o.made.Created = storekit.Time(out.id), deadline, created
	return out.rows == 1, err
}

func saveBatch(t *tx, ops []*op) error {
	rows, err := t.lockSome(hashesOf(ops))
	if err != nil {
		return err
	}
	var save []*op
	for _, o := range ops {
		r := rows[o.key.Hash]
		switch {
		case r == nil || o.lost != nil && r.Rec.Version != o.rec.Version:
			continue
		case !r.Is(o.key):
			r = nil
		}
		if o.made, o.refusal = r.Save(o.rec, o.becomes, o.mayEnd); o.refusal != nil {
			continue
		}
		if r.Now.Before(o.made.Expires) { // else it ends the session
			o.written = true
			save = append(save, o)
		}
	}
	if len(save) == 0 {
		return nil
	}
	size := sizeFor(len(save))
	hashes := hashArgs(nil, hashesOf(save))
	args := append([]any(nil), hashes...)
	for i := range size {
		args = append(args, decimal(save[min(i, len(save)-1)].made.Version))
	}
	args = append(args, hashes...)
	for i := range size {
		args = append(args, decimal(storekit.Micros(save[min(i, len(save)-1)].made.Expires)))
	}
	args = append(args, hashes...)
	for i := range size {
		if i < len(save) {
			args = append(args, sqlrow.NullBytes(save[i].made.Data))
			continue
		}
		args = append(args, nil) // FIELD finds the first
	}
	_, err = t.exec(t.ctx, text{saveSome, size}, append(args, hashes...)...)
	return err
}

// decimal is a number as ELT takes and returns it: a text.
func decimal(n int64) []byte { return strconv.AppendInt(nil, n, 10) }

func hashesOf(ops []*op) [][32]byte {
	out := make([][32]byte, len(ops))
	for i, o := range ops {
		out[i] = o.key.Hash
	}
	return out
}

func saveApart(t *tx, o *op) (err error) {
	o.made, err = sqlstore.Save(t, o.rec, o.becomes, o.mayEnd)
	return err
}
