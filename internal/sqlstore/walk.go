package sqlstore

import (
	"context"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/internal/sqlrow"
	"github.com/sojourn-go/sojourn/internal/storekit"
	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/session"
)

// StepRows is how many rows one transaction looks at to end their sessions. It is
// far more than others add meanwhile, so that a walk comes to its end.
const StepRows = 500

// Clear is session.Clearer.Clear.
func (e *Engine) Clear(ctx context.Context) (int64, error) {
	n, err := e.walk(ctx, walk{what: "clear"})
	return n, e.Wrap("clear", err)
}

// DestroyUser is session.UserIndex.DestroyUser.
func (e *Engine) DestroyUser(ctx context.Context, user string, except ...session.Key) (int64, error) {
	n, err := e.destroyUser(ctx, user, except)
	return n, e.Wrap("destroy user", err)
}

func (e *Engine) destroyUser(ctx context.Context, user string, except []session.Key) (int64, error) {
	if err := e.begunFor(ctx, user); err != nil {
		return 0, err
	}
	return e.walk(ctx, walk{what: "destroy user", user: user, except: slices.DeleteFunc(slices.Clone(except), func(key session.Key) bool {
		return !storekit.Possible(key)
	})})
}

// walk ends many sessions in steps. A step is a transaction, looks at no more
// than StepRows rows and waits for none of them. The walk goes along the IDs,
// which only grow: what a session is renewed to, or is created, once a step is
// over is still to come.
type walk struct {
	what string
	// user, if set, is whose sessions are ended. Nobody adds to them while a step is
	// under way.
	user string
	// except are keys whose heads are not ended.
	except []session.Key
}

// walk returns how many sessions it has ended, when it fails as well.
func (e *Engine) walk(ctx context.Context, w walk) (total int64, err error) {
	defer func() { e.destroys.Add(uint64(total)) }()
	for after := int64(0); ; {
		began := time.Now()
		done, err := write(ctx, e, Work{What: w.what, Ends: true}, func(tx Tx) (step, error) { return w.step(tx, after) })
		total += done.live
		switch {
		case err != nil:
			return total, err
		case done.left != nil:
			// The row is waited for without the user and without other rows. Then the
			// step is done again.
			live, err := write(ctx, e, Work{What: w.what, Ends: true, Waits: true}, func(tx Tx) (int64, error) {
				return w.follow(tx, *done.left)
			})
			total += live
			if err != nil {
				return total, err
			}
		case !done.more:
			return total, nil
		default:
			after = done.last
			if e.Pause != nil && !wait.Sleep(ctx, e.Pause(time.Since(began))) {
				return total, wait.Ended(ctx)
			}
		}
	}
}

// step is what one step has done.
type step struct {
	last int64     // the ID up to which it came
	more bool      // there may be rows after that
	live int64     // how many it has ended that were live
	left *[32]byte // one that others hold, or have renewed since it was found
}

func (w walk) step(tx Tx, after int64) (step, error) {
	if w.user != "" {
		if _, err := tx.Admit(w.user, true); err != nil {
			return step{}, err
		}
	}
	page, err := tx.Page(w.user, after, StepRows)
	if err != nil {
		return step{}, err
	}
	spared, err := w.heads(tx)
	if err != nil {
		return step{}, err
	}
	done := step{last: page.Last, more: page.Full, left: page.Held}
	var doomed []*sqlrow.Row
	for _, r := range page.Rows {
		switch {
		case r.Next != nil:
			done.left = &r.Rec.Key.Hash
		case !r.Ended.IsZero(): // since it was found
		case !spared[r.Rec.Key.Hash]:
			doomed = append(doomed, r)
			if r.Live() {
				done.live++
			}
		}
	}
	return done, tx.End(doomed...)
}

// follow ends what a session has become.
func (w walk) follow(tx Tx, hash [32]byte) (int64, error) {
	r, err := tx.Lock(hash)
	if err != nil {
		return 0, err
	}
	r, err = head(tx, r)
	if err != nil || r == nil || w.user != "" && r.Rec.User != w.user {
		return 0, err
	}
	// It is locked, so a key in except that leads to it leads nowhere else.
	spared, err := w.heads(tx)
	if err != nil || spared[r.Rec.Key.Hash] {
		return 0, err
	}
	live, err := end(tx, r)
	if err != nil || !live {
		return 0, err
	}
	return 1, nil
}

// heads are the hashes of what the excepted keys stand for. They stay the heads if
// nobody can renew them.
func (w walk) heads(tx Tx) (map[[32]byte]bool, error) {
	heads := map[[32]byte]bool{}
	for _, key := range w.except {
		r, err := tx.Find(key)
		for err == nil && r != nil && r.Next != nil {
			r, err = tx.Find(r.Successor())
		}
		if err != nil {
			return nil, err
		}
		if r != nil {
			heads[r.Rec.Key.Hash] = true
		}
	}
	return heads, nil
}
