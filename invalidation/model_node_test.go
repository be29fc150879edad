package invalidation

import (
	"errors"
	"time"
)

// simNode uses its Cache like a store: it listens, reads and writes. Each of its
// steps is an event, so that those of different goroutines mix in any order.
type simNode struct {
	*sim
	name string
	c    *Cache

	// Its clocks differ from the simulation's.
	wall      time.Duration
	suspended time.Duration

	paused    bool
	backlog   []simEvent // what happens when it goes on
	link      *simLink
	listening bool // Listening was called and no Gap since
	connects  int
	held      bool
	reading   map[*Flight][]simRead
	seen      map[*simRow]int // the state that this node has acknowledged
	known     map[*simRow]simBasis

	reads, hits, joined int
}

func (n *simNode) clock() Instant {
	return Instant{Mono: n.now - n.suspended, Wall: n.now + n.wall}
}

// start begins what a node does all the time.
func (n *simNode) start() {
	n.connect()
	n.every(modelBeat, n.beat)
	n.every(modelBeat, n.watch)
	n.every(90*time.Millisecond, func() {
		if n.now < modelActive {
			n.read(n.someRow(), 0)
		}
	})
}

func (n *simNode) every(d time.Duration, do func()) {
	var again func()
	again = func() {
		do()
		n.after(n.between(d*3/4, d*5/4), n, again)
	}
	n.after(n.between(0, d), n, again)
}

// connect begins to listen: LISTEN is sent, committed by the server, and its
// answer is the first that comes in through the link.
func (n *simNode) connect() {
	l := &simLink{sim: n.sim, node: n}
	n.link = l
	n.connects++
	n.after(n.delay(), nil, func() {
		if n.now < modelActive && n.chance(n.profile.refuse) {
			l.drop(n.chance(0.3))
		}
		if !l.lost {
			l.subscribed = true
			l.enqueue(simParcel{server: n.db.server})
		}
	})
	n.after(modelLease, n, func() { // a connection that does not come about
		if n.link == l && !n.listening {
			l.drop(true)
			n.disconnected(l)
		}
	})
}

func (n *simNode) disconnected(l *simLink) {
	if n.link == l {
		n.gap(CauseDisconnect)
	}
}

func (n *simNode) gap(cause Cause) {
	n.logf(n, "gap: %v", cause)
	n.c.Gap(cause, errors.New("the link is lost"))
	n.link.drop(true)
	n.link, n.listening = nil, false
	n.after(n.between(0, modelBeat), n, func() { n.connect() })
}

func (n *simNode) receive(l *simLink, p simParcel) {
	if n.link != l {
		return
	}
	if !p.server.IsZero() {
		n.logf(n, "listens")
		n.listening = true
		if err := n.c.Listening(p.server); err != nil {
			n.fail(n, "Listening: %v", err)
		}
		return
	}
	n.logf(n, "receives %s", p.payload)
	n.c.Receive(p.payload)
}

// beat sends a heartbeat through a connection that writes.
func (n *simNode) beat() {
	h := n.c.Beat(modelLease)
	n.after(n.delay(), nil, func() {
		if n.now < modelActive && n.chance(n.profile.failing) {
			return
		}
		n.logf(n, "its heartbeat %s is committed", h.Payload())
		n.db.notify(h.Payload())
		n.after(n.delay(), n, func() { n.c.Committed(h) })
	})
}

// watch is what the listener does now and then.
func (n *simNode) watch() {
	n.c.Check()
	if n.listening && n.c.Silent() {
		n.gap(CauseSilence)
	}
}

// onLease checks that the changes alternate.
func (n *simNode) onLease(change LeaseChange) {
	if change.Held == n.held || change.Held == (change.Err != nil) {
		n.fail(n, "OnLease(%+v) while held is %v", change, n.held)
	}
	n.held = change.Held
	n.logf(n, "lease held: %v (%v)", change.Held, change.Err)
}

// simRead is a read of a row that began at a time, when the node had
// acknowledged some states of it.
type simRead struct {
	row   *simRow
	since time.Duration
	floor int
	hops  int
	mine  bool
}

// read is what the store does in Get.
func (n *simNode) read(r *simRow, hops int) {
	if r == nil || hops > 3 {
		return
	}
	w := simRead{row: r, since: n.now, floor: n.seen[r], hops: hops}
	n.reads++
	if got, ok := n.c.Get(r.key); ok {
		n.hits++
		n.logf(n, "hit %v: version %d, next %d", r, got.Record.Version, got.Next.Hash[31])
		n.checkHit(w, got)
		n.know(r, got)
		if !got.Next.IsZero() {
			n.read(n.db.byKey[got.Next], hops+1)
		}
		return
	}
	if n.chance(0.03) {
		n.readAlone(w)
		return
	}
	f, mine := n.c.Join(r.key)
	w.mine = mine
	n.reading[f] = append(n.reading[f], w)
	if mine {
		n.lead(f, r)
	} else {
		n.joined++
		n.logf(n, "joins the read of %v", r)
	}
}

func (n *simNode) lead(f *Flight, r *simRow) {
	n.logf(n, "reads %v", r)
	server := f.Server()
	n.after(n.delay(), nil, func() {
		got, err := n.db.read(r, server)
		abandoned := n.chance(n.profile.failing)
		if abandoned {
			got, err = Row{}, errors.New("its caller gave up")
		} else if n.chance(n.profile.failing) {
			got, err = Row{}, errors.New("the connection broke")
		}
		n.logf(n, "reads %v: version %d, next %d, %v; abandoned: %v", r, got.Record.Version, got.Next.Hash[31], err, abandoned)
		n.after(n.delay(), n, func() {
			n.c.Finish(f, got, err, abandoned)
			n.landed(f)
		})
	})
}

// landed gives the row to all who waited for it.
func (n *simNode) landed(f *Flight) {
	waiting := n.reading[f]
	delete(n.reading, f)
	for _, w := range waiting {
		if f.abandoned && !w.mine {
			n.read(w.row, w.hops)
			continue
		}
		n.logf(n, "read %v, since %.4fs: version %d, next %d, %v", w.row, w.since.Seconds(), f.row.Record.Version, f.row.Next.Hash[31], f.err)
		n.checkRead(w, f.row, f.err)
		n.know(w.row, f.row)
		if f.err == nil && !f.row.Next.IsZero() {
			n.read(n.db.byKey[f.row.Next], w.hops+1)
		}
	}
}

// readAlone is a read that nobody shares.
func (n *simNode) readAlone(w simRead) {
	w.mine = true
	t := n.c.Reserve(w.row.key)
	n.after(n.delay(), nil, func() {
		got, err := n.db.read(w.row, t.Server())
		n.after(n.delay(), n, func() {
			if err == nil {
				n.c.Fill(t, got)
			}
			n.checkRead(w, got, err)
			n.know(w.row, got)
		})
	})
}

// someRow is mostly a live one of the latest.
func (n *simNode) someRow() *simRow {
	rows := n.db.rows
	if len(rows) == 0 {
		return nil
	}
	if n.chance(0.8) {
		rows = rows[max(0, len(rows)-6):]
	}
	r := rows[n.rng.IntN(len(rows))]
	for i := 0; i < 3 && !n.db.live(r) && n.chance(0.8); i++ {
		r = rows[n.rng.IntN(len(rows))]
	}
	return r
}

func (n *simNode) invalidate(rows ...*simRow) {
	for _, r := range rows {
		n.c.Invalidate(r.key)
	}
}
