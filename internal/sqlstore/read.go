package sqlstore

import (
	"context"
	"iter"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Get is session.Store.Get.
func (e *Engine) Get(ctx context.Context, key session.Key) (session.Record, error) {
	rec, err := e.get(ctx, key)
	return rec, e.Wrap("get", err)
}

func (e *Engine) get(ctx context.Context, key session.Key) (session.Record, error) {
	if err := e.Begun(ctx); err != nil {
		return session.Record{}, err
	}
	e.gets.Add(1)
	if !storekit.Possible(key) {
		return session.Record{}, session.ErrNotFound
	}
	var rec session.Record
	err := e.Database.Read(ctx, func(reader Reader) error {
		asked, err := reader.Find(ctx, key)
		r := asked
		for err == nil && r != nil && r.InGrace() {
			r, err = reader.Find(ctx, r.Successor())
		}
		switch {
		case err != nil:
			return err
		case r == nil || !r.Live():
			return session.NotFound(asked.Fate())
		}
		rec = r.Rec
		if r == asked {
			rec.Key = key
		}
		return nil
	})
	if err != nil {
		return session.Record{}, err
	}
	return rec, nil
}

// Fate is session.Explainer.Fate.
func (e *Engine) Fate(ctx context.Context, key session.Key) (session.Fate, error) {
	fate, err := e.fate(ctx, key)
	return fate, e.Wrap("fate", err)
}

func (e *Engine) fate(ctx context.Context, key session.Key) (fate session.Fate, err error) {
	if err := e.Begun(ctx); err != nil {
		return session.FateUnknown, err
	}
	e.gets.Add(1)
	if !storekit.Possible(key) {
		return session.FateUnknown, nil
	}
	err = e.Database.Read(ctx, func(reader Reader) error {
		r, err := reader.Find(ctx, key)
		fate = r.Fate()
		return err
	})
	if err != nil {
		return session.FateUnknown, err
	}
	return fate, nil
}

// Len is session.Lister.Len.
func (e *Engine) Len(ctx context.Context) (int64, error) {
	n, err := e.count(ctx, "")
	return n, e.Wrap("len", err)
}

// CountUser is session.UserIndex.CountUser.
func (e *Engine) CountUser(ctx context.Context, user string) (n int64, err error) {
	if err = e.begunFor(ctx, user); err == nil {
		n, err = e.count(ctx, user)
	}
	return n, e.Wrap("count user", err)
}

func (e *Engine) count(ctx context.Context, user string) (n int64, err error) {
	err = e.scan(ctx, func(reader Reader) (err error) {
		n, err = reader.Count(ctx, user)
		return err
	})
	return n, err
}

// ListUser is session.UserIndex.ListUser.
func (e *Engine) ListUser(ctx context.Context, user string, after session.Record, most int) ([]session.Record, error) {
	recs, err := e.listUser(ctx, user, after, most)
	return recs, e.Wrap("list user", err)
}

func (e *Engine) listUser(ctx context.Context, user string, after session.Record, most int) (recs []session.Record, err error) {
	if err := e.Begun(ctx); err != nil {
		return nil, err
	}
	if err := e.Limits().Page(user, most); err != nil {
		return nil, err
	}
	err = e.scan(ctx, func(reader Reader) error {
		recs = nil
		return reader.OfUser(ctx, user, after, most, func(r *sqlrow.Row) { recs = append(recs, r.Rec) })
	})
	if err != nil {
		return nil, err
	}
	return recs, nil
}

func (e *Engine) begunFor(ctx context.Context, user string) error {
	if err := e.Begun(ctx); err != nil {
		return err
	}
	return e.Limits().User("user", user)
}

func (e *Engine) scan(ctx context.Context, f func(Reader) error) error {
	if err := e.Begun(ctx); err != nil {
		return err
	}
	return e.Database.Scan(ctx, f)
}

// A page is read at once: nothing is held between two pages.
const (
	keysPerPage     = 5000
	sessionsPerPage = 500
)

// Keys is session.Lister.Keys.
func (e *Engine) Keys(ctx context.Context) iter.Seq2[session.Key, error] {
	return func(yield func(session.Key, error) bool) {
		err := pages(ctx, e, keysPerPage, func(reader Reader, after int64, take func(int64, session.Key)) error {
			return reader.Keys(ctx, after, keysPerPage, take)
		}, yield)
		if err != nil {
			yield(session.Key{}, e.Wrap("list keys", err))
		}
	}
}

// All is session.Lister.All.
func (e *Engine) All(ctx context.Context) iter.Seq2[session.Record, error] {
	return func(yield func(session.Record, error) bool) {
		err := pages(ctx, e, sessionsPerPage, func(reader Reader, after int64, take func(int64, session.Record)) error {
			return reader.Sessions(ctx, after, sessionsPerPage, func(r *sqlrow.Row) { take(r.ID, r.Rec) })
		}, yield)
		if err != nil {
			yield(session.Record{}, e.Wrap("list", err))
		}
	}
}

// pages walks along the IDs, which only grow, until yield says no.
func pages[T any](ctx context.Context, e *Engine, size int, read func(Reader, int64, func(int64, T)) error, yield func(T, error) bool) error {
	last, page := int64(0), []T(nil)
	for {
		from := last
		err := e.scan(ctx, func(reader Reader) error {
			page = page[:0]
			return read(reader, from, func(id int64, item T) { page, last = append(page, item), id })
		})
		if err != nil {
			return err
		}
		for _, item := range page {
			if !yield(item, nil) {
				return nil
			}
		}
		if len(page) < size {
			return nil
		}
	}
}
