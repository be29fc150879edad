package invalidation

import (
	"fmt"
	"slices"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// simDB is the simulated primary. A commit is atomic: the new state of its
// rows can be read, and its messages are on their way, at one moment.
type simDB struct {
	*sim
	epoch  time.Time // its clock is this plus the simulation's
	server time.Time // when it was started
	rows   []*simRow
	byKey  map[session.Key]*simRow
	keys   int // that were made

	// Commits can be read before they are durable, in their order. A crash undoes
	// those that are not.
	unflushed []change
	crashes   int
	contents  int64
}

// simRow is a session with all that it has ever been.
type simRow struct {
	name    string
	key     session.Key
	user    string
	created time.Duration
	states  []rowState
}

// rowState is what a commit made of a row.
type rowState struct {
	at                time.Duration
	version, data     int64 // what the session contains is a number
	expires, deadline time.Duration
	ended             bool
	next              session.Key
	grace             time.Duration // end of the time in which the key leads to next
}

func (st rowState) live(at time.Duration) bool { return !st.ended && at < st.expires }

func (st rowState) leads(at time.Duration) bool { return !st.next.IsZero() && at < st.grace }

func (r *simRow) String() string { return r.name }

func (st rowState) String() string {
	return fmt.Sprintf("{%.4fs: version %d, data %d, expires %.4fs, deadline %.4fs, ended %v, leads to %d until %.4fs}",
		st.at.Seconds(), st.version, st.data, st.expires.Seconds(), st.deadline.Seconds(), st.ended, st.next.Hash[31], st.grace.Seconds())
}

func (r *simRow) last() rowState { return r.states[len(r.states)-1] }

func (db *simDB) clock(t time.Duration) time.Time { return db.epoch.Add(t) }

func (db *simDB) live(r *simRow) bool { return len(r.states) > 0 && r.last().live(db.now) }

// change commits what f makes of the last rowState of r.
func (db *simDB) change(r *simRow, f func(*rowState)) {
	st := r.last()
	f(&st)
	st.at = db.now
	r.states = append(r.states, st)
	db.unflushed = append(db.unflushed, change{r, len(r.states) - 1})
	db.logf(nil, "commit %v %v", r, st)
}

// content is one that no session has had.
func (db *simDB) content() int64 {
	db.contents++
	return db.contents
}

// newKey makes keys that share stripes, and some that share a token.
func (db *simDB) newKey() session.Key {
	i := db.keys
	db.keys++
	var k session.Key
	k.Bucket = int32(1000 + i)
	k.Hash[0], k.Hash[31] = byte(i+1), byte(i)
	switch i % 8 {
	case 3, 7:
		k.Hash[0], k.Hash[15] = byte(i), byte(i) // the stripe of the one before
	case 5:
		k.Hash[0] = byte(i) // the token of the one before
	}
	return k
}

// create adds a session; it needs no message, as nothing negative is cached.
func (db *simDB) create(key session.Key, user string, idle, lifetime time.Duration) *simRow {
	r := &simRow{name: fmt.Sprintf("s%d", len(db.rows)), key: key, user: user, created: db.now}
	deadline := db.now + lifetime
	r.states = []rowState{{at: db.now, version: 1, data: db.content(), expires: min(db.now+idle, deadline), deadline: deadline}}
	db.rows = append(db.rows, r)
	db.byKey[r.key] = r
	db.unflushed = append(db.unflushed, change{r, 0})
	db.logf(nil, "create %v of %q: %v", r, user, r.last())
	return r
}

// read is what a SELECT returns now. Like the store, it gives no life to what
// comes from another server than the one that is listened to.
func (db *simDB) read(r *simRow, server time.Time) (Row, error) {
	var out Row
	switch st := r.last(); {
	case st.live(db.now):
		out = Row{Record: db.record(r, st), Life: st.expires - db.now}
	case st.leads(db.now):
		out = Row{Next: st.next, Life: st.grace - db.now}
	default:
		return Row{}, session.ErrNotFound
	}
	if !server.Equal(db.server) {
		out.Life = 0
	}
	return out, nil
}

func (db *simDB) record(r *simRow, st rowState) session.Record {
	return session.Record{
		Key: r.key, Version: st.version, User: r.user, Data: fmt.Append(nil, st.data),
		Created: db.clock(r.created), Expires: db.clock(st.expires), Deadline: db.clock(st.deadline),
	}
}

// notify sends payloads to all who listen, in the order of the commits.
func (db *simDB) notify(payloads ...string) {
	for _, n := range db.nodes {
		if n.link == nil || !n.link.subscribed {
			continue
		}
		for _, p := range payloads {
			n.link.send(p)
		}
	}
}

// restart loses all messages that are on their way, and all connections.
func (db *simDB) restart() {
	db.server = db.clock(db.now)
	db.logf(nil, "the server restarts")
	for _, n := range db.nodes {
		if n.link != nil {
			n.link.drop(db.chance(0.3))
		}
	}
}

// crash is a restart that loses what was not durable. Those who have read it go
// on and save.
func (db *simDB) crash() {
	for _, c := range slices.Backward(db.unflushed) {
		st := rowState{ended: true} // it was never made
		if c.state > 0 {
			st = c.row.states[c.state-1]
		}
		st.at = db.now
		c.row.states = append(c.row.states, st)
		db.logf(nil, "the crash makes of %v %v", c.row, st)
		for _, n := range db.nodes {
			n.after(db.between(0, modelLease), n, func() { n.save(c.row, false) })
		}
	}
	db.unflushed = nil
	db.crashes++
	db.restart()
}

// simLink is a listening connection: what is sent comes in later, in order, or
// never.
type simLink struct {
	*sim
	node       *simNode
	subscribed bool
	lost       bool
	stalled    time.Duration // until then nothing comes in
	slow       time.Duration // until then one thing comes in at a time, at intervals
	queue      []simParcel
	moving     bool
}

type simParcel struct {
	ready   time.Duration
	payload string
	server  time.Time // not a message, but the answer to LISTEN
}

func (l *simLink) send(payload string) { l.enqueue(simParcel{payload: payload}) }

func (l *simLink) enqueue(p simParcel) {
	if l.lost {
		return
	}
	p.ready = l.now + l.delay()
	l.queue = append(l.queue, p)
	l.move()
}

func (l *simLink) move() {
	if l.moving || len(l.queue) == 0 {
		return
	}
	l.moving = true
	l.at(max(l.queue[0].ready, l.stalled), nil, func() {
		l.moving = false
		switch {
		case l.lost:
			return
		case l.stalled <= l.now: // it may have stalled meanwhile
			p := l.queue[0]
			l.queue = l.queue[1:]
			if l.now < l.slow {
				l.stalled = l.now + l.between(0, modelBeat)
			}
			l.push(simEvent{at: l.now, node: l.node, receive: true, do: func() { l.node.receive(l, p) }})
		}
		l.move()
	})
}

// drop loses everything that is on its way. If silent, the node is not told.
func (l *simLink) drop(silent bool) {
	if l.lost {
		return
	}
	l.lost = true
	l.logf(l.node, "its link is lost, silently: %v", silent)
	if !silent {
		l.push(simEvent{at: l.now + l.delay(), node: l.node, receive: true, do: func() { l.node.disconnected(l) }})
	}
}
