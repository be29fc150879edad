// Package invalidation lets a node answer reads of sessions from its own memory,
// and prove each time that what it answers is not older than a lease.
//
// # The proof
//
// A transaction that writes a session also notifies all nodes. Postgres
// delivers notifications in the order of the commits, over one connection that
// keeps that order, and this package applies them in that order too, one after
// the other. So a message that a node sends to itself, a heartbeat, comes back
// behind everything that was committed before it was sent:
//
//	write path ──▶ NOTIFY ──▶ queue of the server ──▶ LISTEN ──▶ Receive
//	  Beat: sent at s          logouts before s        echo: applied up to s
//
// When the heartbeat that was sent at s has come back, every write that was
// acknowledged before s has been taken out of the cache. The node may answer
// until s plus the lease, by its own clocks, whatever becomes of the connection.
// A read at t therefore reflects all that was acknowledged before t minus the
// lease. Nothing else is trusted: not that a socket is open, nor that it was
// open a moment ago, nor when a message arrived.
//
//	        Listening: an epoch begins,      echo of a Beat
//	        empty, and may be filled
//	apart ─────────────────────▶ listening ─────────────────▶ leased
//	  ▲                           │     ▲                      │  │
//	  │                           │     └── no echo in time ───┘  │
//	  └────────── Gap ────────────┴───────────────────────────────┘
//	  connection lost or silent: first the lease goes, then the entries
//
// A message that is not understood and a clock that jumps empty the cache as
// well.
//
// # Filling it
//
// A row that was read may be out of date when it arrives. It is kept only if
// three things hold since before the database was asked. Nothing has
// invalidated its key: each stripe of keys has a generation, each stripe of
// users a moment. The node has been listening all the time: the epoch. The row
// came from the server that is listened to. Callers share a read of the same
// key only while all of that holds, and only one that began less than a lease
// ago. A row that was read lives for a minute at most, and never beyond what
// the database's clock gave it.
//
// A node's own messages take out only what it is still writing, or what it has
// just written would be lost with them. So a [Write] lasts from before it is sent until its outcome
// is known or nobody waits for it any more. Meanwhile nothing that is read of
// what it may change is stored, for it may be of before the commit:
//
//	Begin ───── sent ───── committed ───── answered ── End
//	  taken out   └── a read may be of before ──┘  │
//	  ◀────────── nothing that is read is stored ──▶
//
// A save takes nothing out by itself ([Cache.BeginSave]): until its message comes
// in, or its answer, the node serves the session as it was, like all other nodes.
//
// At its End the row that a write has left may be stored, if nobody else has
// written. However long the answer takes, and if it never comes, the node asks
// the database meanwhile. Where an outcome stays unknown, the node first stops
// taking the messages of its earlier writes for its own. If the write is
// committed later, the node hears of it like of the write of another node. The
// same holds for all sessions of a user, and for all sessions.
//
// # What it rests on
//
// Every program that writes sessions notifies. The monotonic clocks of all
// nodes run equally fast. A machine that is suspended finds its wall clock
// advanced when it wakes up. If both clocks stand still, nothing can tell, and
// until the next heartbeat is due the node answers as of before. Anybody who
// may connect to the database can send messages. A message can take entries out
// of a cache and put none in, and nobody can foresee the heartbeats of another.
//
// # Parts
//
// [Cache] is the protocol, without a connection, a goroutine or a clock of its
// own: the same code runs under a simulator that delays, stalls and drops
// everything. [Run] gives it a connection that listens, and heartbeats. [Sender]
// makes the messages.
package invalidation
