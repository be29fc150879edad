package sqlstore

import (
	"context"
	"slices"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Destroy is session.Store.Destroy. When it fails, it returns how many sessions
// it had ended.
func (e *Engine) Destroy(ctx context.Context, keys ...session.Key) (int64, error) {
	n, err := e.destroy(ctx, keys)
	e.destroys.Add(uint64(n))
	return n, e.Wrap("destroy", err)
}

// destroyBatch is how many keys one transaction ends, so that other writes get
// in between.
const destroyBatch = 1000

func (e *Engine) destroy(ctx context.Context, keys []session.Key) (total int64, err error) {
	if err := e.Begun(ctx); err != nil {
		return 0, err
	}
	for _, key := range keys {
		if err := storekit.Key("a key", key); err != nil {
			return 0, err
		}
	}
	seen := make(map[session.Key]bool, len(keys))
	keys = slices.DeleteFunc(slices.Clone(keys), func(key session.Key) bool {
		again := seen[key]
		seen[key] = true
		return again || !storekit.Possible(key)
	})
	if e.Fast != nil {
		return e.Fast.Destroy(ctx, keys)
	}
	for batch := range slices.Chunk(keys, destroyBatch) {
		n, err := write(ctx, e, Work{What: "destroy", Ends: true}, func(tx Tx) (n int64, err error) {
			for _, key := range batch {
				live, err := Destroy(tx, key)
				if err != nil {
					return 0, err
				}
				if live {
					n++
				}
			}
			return n, nil
		})
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Destroy ends in tx the session that key stands for, and reports whether that
// was live.
func Destroy(tx Tx, key session.Key) (live bool, err error) {
	r, err := lockKey(tx, key)
	if err != nil {
		return false, err
	}
	if r, err = head(tx, r); err != nil {
		return false, err
	}
	return end(tx, r)
}

// head locks what a row, which is locked, has become. It overtakes a client that
// renews as fast as it can, since a renewal has to lock the row that it replaces.
func head(tx Tx, r *sqlrow.Row) (*sqlrow.Row, error) {
	for r != nil && r.Next != nil {
		var err error
		if r, err = tx.Lock(r.Successor().Hash); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// end ends a row that is locked, if there is one, and reports whether it was live.
func end(tx Tx, r *sqlrow.Row) (live bool, err error) {
	if r == nil || !r.Ended.IsZero() {
		return false, nil
	}
	return r.Live(), tx.End(r)
}
