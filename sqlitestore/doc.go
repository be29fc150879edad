// Package sqlitestore keeps sessions in an SQLite file, for programs on one
// machine: one process or several. It uses modernc.org/sqlite, which needs no C
// compiler.
//
//	store, err := sqlitestore.Open(ctx, "data/sessions.db", sqlitestore.Options{})
//
// Open makes the file, its folders and its tables. New takes a *sql.DB instead.
//
// # Reading and writing
//
// The file is in WAL mode: a read sees the last committed state and waits for
// nobody. SQLite lets one connection write at a time, so each store has one
// goroutine that writes. It takes the lock, and then all writes that wait, up
// to Options.BatchItems, become one transaction. There is no timer: a lone
// write goes at once, and the more callers there are the more share a commit.
// The store reads from the file each time; it has no cache.
//
// A write is acknowledged when it is committed and, unless
// Options.Synchronous says otherwise, on disk. That includes touches.
//
// # Time
//
// The machine's clock decides what is live. A write reads it once it has the
// lock, so that one that waited for longer than its session had to live is
// refused. The clock must not be set back by more than the retire grace.
//
// # Several processes
//
// Every process opens the file by itself; SQLite's locks do the rest. When one
// is killed, the others go on at once: its transaction has not happened. A
// process that keeps the write lock, a stopped one say, makes the writes of the
// others fail with ErrLocked after Options.WriteTimeout, while reads go on.
//
// # Pruning
//
// A pass each minute, by one of the processes, deletes what is past its
// deadline and, in the course of an hour, what has long been idle. Its
// transactions take about two milliseconds each, and it pauses for twice as long
// after each: other writes get in between. The space is used again for new sessions;
// the file does not shrink by itself (see VACUUM in SQLite's manual).
//
// # What happens on failure
//
// Every error wraps the driver's. ErrFull, ErrReadOnly, ErrLocked and ErrDamaged
// say what it means, and that nothing was written. If the disk fails while a
// transaction is committed, the store writes again and looks what became of it;
// if that fails too the error is session.ErrUnknown. A write of a batch that
// fails does not fail the others.
package sqlitestore
