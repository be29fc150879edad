package invalidation

import (
	"errors"
	"strconv"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// The checker knows all that was ever committed. A read that begins at t may
// be answered with what a session was at any time since t - L (P2, P3), but
// on a node that has acknowledged a change only with what it was since then.
// This is stricter than the promise: it counts from the commit, which comes
// before the acknowledgement, or without one, also on the node that made a change
// and never learns its outcome.

// oldest is the first state that may be the answer.
func (n *simNode) oldest(w simRead) int {
	for i := len(w.row.states) - 1; i > w.floor; i-- {
		if w.row.states[i].at < w.since-modelLease {
			return i
		}
	}
	return w.floor
}

// checkHit checks an answer from the cache. No expiry is late in it.
func (n *simNode) checkHit(w simRead, got Row) {
	if !n.held {
		n.fail(n, "a hit without a lease")
	}
	for i := n.oldest(w); i < len(w.row.states); i++ {
		if n.matches(w.row, i, got, n.now) {
			return
		}
	}
	n.violation(w, got, nil)
}

// checkRead checks an answer from the database, which may have been read for
// somebody who came earlier.
func (n *simNode) checkRead(w simRead, got Row, err error) {
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return
	}
	from := w.since
	if !w.mine {
		from -= modelLease
	}
	states := w.row.states
	for i := n.oldest(w); i < len(states); i++ {
		begin, end := max(from, states[i].at), n.now
		if i+1 < len(states) {
			end = min(end, states[i+1].at)
		}
		switch {
		case begin > end:
		case err == nil && n.matches(w.row, i, got, begin):
			return
		case err != nil && !states[i].live(end) && !states[i].leads(end):
			return
		}
	}
	if err != nil && states[0].at >= from {
		return // it did not exist
	}
	n.violation(w, got, err)
}

// checkExtended checks that a session that was called live was live.
func (n *simNode) checkExtended(w simRead, expires time.Time) {
	deadline := n.db.clock(w.row.last().deadline)
	for i := n.oldest(w); i < len(w.row.states); i++ {
		if w.row.states[i].live(n.now) && !expires.After(deadline) {
			return
		}
	}
	n.fail(n, "Extend of %v says it expires at %v\nstates: %v", w.row, expires, w.row.states)
}

// matches reports whether got is state i of r, alive at the given time.
func (n *simNode) matches(r *simRow, i int, got Row, at time.Duration) bool {
	st := r.states[i]
	if !got.Next.IsZero() {
		return st.next == got.Next && st.leads(at)
	}
	rec, want := got.Record, n.db.record(r, st)
	return st.live(at) && rec.Version == want.Version && rec.Key == want.Key && rec.User == want.User &&
		string(rec.Data) == string(want.Data) && rec.Created.Equal(want.Created) &&
		rec.Deadline.Equal(want.Deadline) && !rec.Expires.After(want.Deadline)
}

func (n *simNode) violation(w simRead, got Row, err error) {
	n.fail(n, "a read of %v that began at %.4fs, when the node had acknowledged state %d, was answered with version %d, next %d, %v\nstates: %v",
		w.row, w.since.Seconds(), w.floor, got.Record.Version, got.Next.Hash[31], err, w.row.states)
}

// acknowledge notes that the node has told a caller of changes.
func (n *simNode) acknowledge(changes []change) {
	for _, c := range changes {
		n.seen[c.row] = max(n.seen[c.row], c.state)
	}
}

// simBasis is what a request has read of a session, to save something else.
type simBasis struct{ version, data int64 }

// know notes what requests of this node have read.
func (n *simNode) know(r *simRow, got Row) {
	if data, err := strconv.ParseInt(string(got.Record.Data), 10, 64); err == nil {
		n.known[r] = simBasis{got.Record.Version, data}
	}
}

// basis is what a request goes by that writes r.
func (n *simNode) basis(r *simRow) simBasis {
	if b, ok := n.known[r]; ok {
		return b
	}
	return simBasis{r.last().version, r.last().data}
}

// checkBasis checks that a write that goes by its basis, whose version is the
// one that is stored, does not overwrite what it has not seen (P3).
func (n *simNode) checkBasis(r *simRow, basis simBasis) {
	if r.last().data != basis.data {
		n.fail(n, "what was read as %+v overwrites another content\nstates: %v", basis, r.states)
	}
}

type change struct {
	row   *simRow
	state int
}
