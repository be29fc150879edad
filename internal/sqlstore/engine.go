// Package sqlstore does the calls of the stores that lock a session's row, look
// at it, decide, and write: MySQL's and SQLite's. What they promise stands here
// once: in which order a transaction locks, how a limit makes room, what a lost
// answer meant, how a walk over a million rows is cut into steps.
//
// The stores give transactions, the texts of statements and connections.
// Package sqlrow decides what becomes of a row.
package sqlstore

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/session"
)

// Database gives transactions and connections.
type Database interface {
	// Write runs f in a transaction and returns once that is committed, or failed.
	// It may run f again, and also after it has returned session.ErrUnknown. An
	// error of f that is a refusal is the result.
	Write(ctx context.Context, w Work, f func(Tx) error) error
	// Read runs f with a connection for lookups, and perhaps again.
	Read(ctx context.Context, f func(Reader) error) error
	// Scan is Read for what may take long.
	Scan(ctx context.Context, f func(Reader) error) error

	// Refuse makes all queues refuse what is new, and does not wait.
	Refuse()
	// Drain waits until what the queues have taken is written.
	Drain()
	// Release gives the connections back. Nobody uses them any more.
	Release() error
	// GiveUp makes what is left fail instead of lasting.
	GiveUp()
}

// Work says what a transaction is for.
type Work struct {
	// What names the call.
	What string
	// Data, if set, is what the caller gave to be written. The store copies it
	// before the caller may use it again.
	Data *[]byte
	// Ends says that the transaction ends sessions.
	Ends bool
	// Waits says that it may have to wait for a row that others hold.
	Waits bool
}

// Tx is a transaction. What it has looked at nobody else changes before it ends.
// A transaction of several writes does not roll back for one that is refused, so
// a write decides before it changes anything.
type Tx interface {
	// Lost is the error of an earlier attempt whose outcome is open, if there was
	// one: this write may be done already.
	Lost() error
	// Now returns the database's time.
	Now() (time.Time, error)
	// Admit keeps user's sessions as they are: nobody who wants them alone gets
	// them before the transaction ends. With alone, nobody else can add to them
	// either. It returns a time after that.
	Admit(user string, alone bool) (time.Time, error)
	// Lock returns the row of that hash, dead or alive, or nil. Its time is one
	// after it was locked. It waits for others who hold the row.
	Lock(hash [32]byte) (*sqlrow.Row, error)
	// Find is Lock that neither locks nor waits. The row is as it was committed or
	// as this transaction has left it.
	Find(key session.Key) (*sqlrow.Row, error)
	// LockAll is Lock for rows that were found. It returns them as they are now, in
	// the same order, without those that are gone.
	LockAll(rows []*sqlrow.Row) ([]*sqlrow.Row, error)
	// OfUser returns the user's live sessions, without data, those created first
	// first. They are not locked.
	OfUser(user string) ([]*sqlrow.Row, error)
	// Page looks at the next rows after an ID, up to that many, in the order of
	// IDs: those of the user, or all for no user. It waits for nobody.
	Page(user string, after int64, most int) (Page, error)

	// Insert adds a session that is kept until the bucket keptTo at least. It is
	// session.ErrExists if the key was used before.
	Insert(rec session.Record, keptTo int32) error
	// Save writes the data, version and expiry of rec to a row that is locked, as
	// do those that follow with what they are given.
	Save(r *sqlrow.Row, rec session.Record) error
	// Touch writes an expiry.
	Touch(r *sqlrow.Row, expires time.Time) error
	// End makes tombstones of rows, as of their time.
	End(rows ...*sqlrow.Row) error
	// Renew makes a tombstone of r that leads to another session until then.
	Renew(r *sqlrow.Row, to session.Key, until time.Time) error
}

// Page is what Tx.Page found.
type Page struct {
	Rows []*sqlrow.Row // that had not ended when they were found, without data, locked
	Held *[32]byte     // one of those that others hold or have removed
	Last int64         // the ID of the last row that it looked at
	Full bool          // there may be more
}

// Reader reads what is committed.
type Reader interface {
	// Find returns the row of key, dead or alive, or nil.
	Find(ctx context.Context, key session.Key) (*sqlrow.Row, error)
	// Count is how many live sessions the user has; all for no user.
	Count(ctx context.Context, user string) (int64, error)
	// OfUser visits the user's live sessions that follow one in the order of their
	// creation and, for those of one moment, of their hashes; up to that many.
	OfUser(ctx context.Context, user string, after session.Record, most int, visit func(*sqlrow.Row)) error
	// Keys visits live sessions after an ID, up to that many, in the order of IDs.
	Keys(ctx context.Context, after int64, most int, visit func(id int64, key session.Key)) error
	// Sessions is Keys for whole sessions.
	Sessions(ctx context.Context, after int64, most int, visit func(*sqlrow.Row)) error
}

// Fast writes for many callers at once. What it is given has been checked. It
// counts refusals and what is unknown itself.
type Fast interface {
	Create(ctx context.Context, rec session.Record) (session.Record, error)
	Save(ctx context.Context, rec session.Record, becomes int64, mayEnd bool) (session.Record, error)
	Touch(ctx context.Context, key session.Key, expires time.Time) (time.Time, error)
	Destroy(ctx context.Context, keys []session.Key) (int64, error)
}

// Engine does a store's calls. Its methods may be called concurrently.
type Engine struct {
	Counters
	lifetime
	pruning

	Database Database
	// Fast, if set, does what is most frequent in place of transactions.
	Fast Fast

	// Limits are those in force.
	Limits func() storekit.Limits
	// Now is the store's clock.
	Now func() time.Time
	// Refresh, if set, says that Now is only what this node knows of another
	// machine's clock. It asks again.
	Refresh func(context.Context) error
	// Pause, if set, is how long a walk waits after a step that took so long.
	Pause func(took time.Duration) time.Duration

	// Wrap names the call in an error, and what the error means. It is nil for nil.
	Wrap func(call string, err error) error
	Log  *zap.Logger
	// OnError, if set, is Options.OnError.
	OnError func(error)
}

// write runs f in a transaction and returns what f returned, once that is
// committed.
func write[T any](ctx context.Context, e *Engine, w Work, f func(Tx) (T, error)) (T, error) {
	var none T
	if err := e.Begun(ctx); err != nil {
		return none, err
	}
	result := new(T) // the database's until Write returns, and for ever after ErrUnknown
	err := e.Database.Write(ctx, w, func(tx Tx) (err error) {
		*result, err = f(tx)
		return err
	})
	if err != nil {
		e.CountRefusal(err)
		return none, err
	}
	return *result, nil
}

// newRecord checks a session that is to be created, and returns it as it is
// kept. It asks the database again before it refuses a time that is out of
// range by what this node knows.
func (e *Engine) newRecord(ctx context.Context, rec session.Record, limits func() storekit.Limits) (session.Record, error) {
	made, err := limits().New(rec, e.Now())
	if e.Refresh == nil || !errors.Is(err, session.ErrDeadline) || rec.Deadline.IsZero() {
		return made, err
	}
	if err := e.Refresh(ctx); err != nil {
		return rec, err
	}
	return limits().New(rec, e.Now())
}

// mayEnd reports whether a write of rec may end the session by its expiry. That
// has passed, or is about to, or this node's clock is the one that counts.
func (e *Engine) mayEnd(rec session.Record) bool {
	return e.Refresh == nil || !rec.Expires.IsZero() && !rec.Expires.After(e.Now().Add(storekit.ClockError))
}

// lockKey is Lock for the row that key names.
func lockKey(tx Tx, key session.Key) (*sqlrow.Row, error) {
	if !storekit.Possible(key) {
		return nil, nil
	}
	r, err := tx.Lock(key.Hash)
	if err != nil || r == nil || !r.Is(key) {
		return nil, err
	}
	return r, nil
}

// BackgroundError reports a failure that no caller is waiting for.
func (e *Engine) BackgroundError(doing string, err error) {
	err = e.Wrap(doing, err)
	e.Log.Error("background work failed", zap.String("work", doing), zap.Error(err))
	e.backgroundErrors.Add(1)
	if e.OnError != nil {
		e.OnError(err)
	}
}
