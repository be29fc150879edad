// Package mysqlstore keeps sessions in MariaDB 10.6 or MySQL 8.0.16 and later,
// for any number of nodes at once. It uses github.com/go-sql-driver/mysql.
//
//	db, err := sql.Open("mysql", dsn)
//	err = migrations.Up(ctx, db, migrations.Config{}) // of migrations/mysql
//	store, err := mysqlstore.New(ctx, db, mysqlstore.Options{})
//
// # Life of a write
//
//	Save ─┐                  one:  UPDATE … WHERE it is live and has the version
//	Save ─┼─▶ lane ─▶ batch ─▶        that was read; that is the transaction
//	Save ─┘            ▲     many: lock what is free, in key order; write
//	   what arrives meanwhile      what is live and has its version; commit
//	   goes into the next              │ what others hold waits beside the lane
//	                                   ▼
//	                     the answer, one by one: written, ErrConflict,
//	                     ErrNotFound …; or none: ErrUnknown, after asking again
//
// Creates, saves, touches and destroys have a lane each. There is no timer: a
// lone write goes at once, and the more callers there are the more share a
// commit. A batch that fails because of one item is split until that item fails
// alone. A batch that takes longer than 50 ms does not keep the next one waiting.
//
// # Reading
//
// The store reads from the database each time; it has no cache. Every node
// reads at once what a write has acknowledged.
//
// # Connections
//
// The *sql.DB stays the caller's. The store takes connections out of it and
// keeps them for itself, since it sets them up. Time zone, isolation, sql_mode,
// character set, autocommit and so on are the store's own, whatever the DSN
// says. It closes them after some minutes, and opens others as it needs them.
// One more holds the lock by which a leader is elected.
//
// # Time
//
// The database's clock decides what is live, at a time when the row is locked:
// a write that waited for longer than its session had to live is refused. Now
// is that clock as this node knows it, to within about half a round trip. The
// database's clock must not be set back by more than the retire grace. If the
// database's clock is not where this node thought, and a time is out of range
// because of that, Now is set right before the caller is told.
//
// # Users
//
// A transaction that creates or renews a session of a user holds one of 256
// locks, shared, until it is committed. The locks are the rows of a small
// table. A transaction that ends all sessions of a user, or enforces a limit,
// holds the lock alone: no creation that has begun escapes.
//
// Many sessions are ended 500 at a time, each step a transaction that waits for
// no row. The store waits for a row that others hold afterwards, with nothing
// else locked.
//
// # Pruning
//
// One node leads, elected by GET_LOCK (package leader). A pass each minute
// deletes what is past its deadline and, in the course of an hour, what has
// long been idle. It deletes up to 250 rows at a time, and pauses for twice as
// long as that took. When the leader is gone another one follows; without one
// sessions still work.
//
// # Promises
//
//   - A session that is renewed, ended or expired is never live again. An idle
//     timeout that ends while a write to that session is on its way may be won by
//     the write; a deadline never is.
//   - A write that was acknowledged is as durable as the server's
//     innodb_flush_log_at_trx_commit and replication make it.
//   - An error that is not session.ErrUnknown means that nothing was written.
//     Calls that end many sessions also return how many they had ended by then.
//   - No session ID leaves the process: the database, logs and errors have its
//     hash.
//
// # What happens on failure
//
// The store tries again after deadlocks, lock waits, lost connections, a server
// that has no connection to give and, for half a second, one that is read-only.
// It does so until the caller gives up or Options.WriteTimeout is over.
// ErrLocked, ErrReadOnly, ErrBusy and ErrFull say what kept a write from
// happening. When the answer to a commit is lost the store looks what became of
// it; session.ErrUnknown is what it could not find out. Without the database
// every call fails with the driver's error, never with session.ErrNotFound, and
// works again once it is back.
//
// Not tested: Galera clusters, TiDB, group replication and proxies that hand
// statements of one connection to several servers.
package mysqlstore
