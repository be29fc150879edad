// Package pgstore keeps sessions in Postgres 14 to 18, for any number of nodes
// at once.
//
// # Life of a write
//
//	Save ─┐                       one transaction, one round trip
//	Save ─┼─▶ lane ─▶ batch ─▶ ┌──────────────────────────────────────┐
//	Save ─┘            ▲       │ settings for safe plans              │
//	                   │       │ per partition: lock what is free, in │
//	   what arrives meanwhile  │ key order; write what is live and    │
//	   goes into the next      │ has the version that was read        │
//	                           └──────────────────────────────────────┘
//	                                │ what others hold waits beside the lane
//	                                ▼
//	                     the answer, one by one: written, ErrConflict,
//	                     ErrNotFound …; or none: ErrUnknown, after asking again
//
// Creates, saves, touches and destroys have a lane each. A batch that fails
// because of one item is split until that item fails alone. A batch whose
// connection has fallen silent goes on on another one, and does not hold up the
// next batch. Destroys use connections of the store's own and do not queue behind
// the application's queries; the rest does so when the pool has none to give.
//
// # Reads
//
// A node answers Get from its memory while it can prove that nothing in there
// was ended or replaced longer than a lease (2 s) ago. Package invalidation has
// the proof. Otherwise the node asks the database. Every write that changes
// what others may have in memory notifies them in its transaction; it is
// acknowledged when it is durable. GetFresh asks the database in any case,
// DestroyOnAllNodes waits until no node can serve the session, and TouchLater
// answers from memory and writes within a second.
//
// # Partitions
//
// The table is partitioned by the hour of the deadline, which never changes, so
// a row never moves. The session ID carries that hour, the bucket. So the store
// names the right partition in its statements, and the server plans and locks
// nothing else. The leader makes partitions ahead, and retires a partition when
// its last deadline has passed: detached without making anybody wait, then
// dropped. A node that needs a partition which is missing makes it.
//
// A session that ends leaves a tombstone, which has lost its data and user,
// until its partition is dropped. Nothing can use its key again, and Fate tells
// what became of it.
//
// # Promises
//
//   - A session that is renewed, ended or expired is never live again. Liveness
//     is decided by the database's clock, by the statement that writes. A first
//     try may wait up to 50 ms for a row: an idle timeout that ends just then can
//     be won by the write. A write that waits longer is tested after the wait,
//     and no write moves an expiry past the deadline.
//   - Once a write has returned, this node reads nothing older. Other nodes read
//     nothing older after one notification, and in any case after the lease.
//   - A write that was acknowledged is committed as durably as the server's
//     synchronous_commit says; touches are not durable at once.
//   - An error that is not ErrUnknown means that nothing was written. Calls that
//     end many sessions also return how many they had ended by then.
//   - No session ID leaves the process: the database, logs and errors have its
//     hash.
//
// # When something fails
//
// Without the database every call fails with the driver's error, never with
// ErrNotFound, after Options.ReadTimeout or WriteTimeout at the latest, and works
// again once the database is back. Without a leader
// sessions still work: expiry is checked by every statement. Without the right
// to make or drop partitions maintenance says once what is missing. Behind a
// transaction pooler, see Options.DirectDSN.
package pgstore
