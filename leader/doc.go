// Package leader elects one of several processes by a lock in their database.
//
// Each process calls [Run] with a work function. Run connects, tries to take
// the lock, and while it has it, the work runs. The lock is the database's,
// held by a connection that is used for nothing else. Package leader/pglock
// takes an advisory lock of Postgres, package leader/mysqllock one of GET_LOCK,
// in MariaDB too.
//
// # States
//
//	              cannot connect, connection broke:
//	              at once, then with growing pauses
//	                   ┌───────────────┐
//	                   ▼               │
//	            ┌────────────┐   ┌─────┴──────┐
//	Run ───────▶│ connecting ├──▶│ following  │ tries the lock about every Poll
//	            └────────────┘   └─────┬──────┘
//	                   ▲               │ got it, and the server says so
//	                   │               ▼
//	                   │         ┌────────────┐ verifies about every Verify
//	                   │         │  leading   │ and after each Term.Do
//	                   │         └──┬──────┬──┘
//	                   │    work    │      │ connection broke, lock not found,
//	                   │  returned  │      │ no answer, Term.Do over its limit
//	                   │            ▼      ▼
//	                   │ ┌───────────┐  ┌──────┐ leading is cancelled with
//	                   │ │ resigning │  │ lost │ ErrLost, the session is cut
//	                   │ └─────┬─────┘  └──┬───┘
//	                   └───────┴───────────┘
//	                  pause of about Poll, doubled
//	                  with each failure in a row
//
// From every state the end of ctx leads out of Run, through resigning if it led.
//
// # What is promised
//
// At most one session holds the lock: that is the database's promise, and it
// ends with the session, not with a timer. What runs inside of [Term.Do] runs
// on that very session. Hence two leaders never interleave there, however slow,
// paused or cut off one of them is. When the next one has the lock, the session
// of the last is gone, and its open transaction rolled back. Only a work that
// unlocks by itself can break this.
//
// Nothing of the kind protects what the work does elsewhere, on other
// connections or in files. A process that was paused, or that the server no
// longer hears, may believe that it leads for another Verify plus Timeout, or
// for the limit of a running Do. Do such work only if it is harmless to do twice
// at the same time. And whatever the work is, it may be interrupted anywhere, so
// it must be able to start over.
//
// # What happens when
//
// In Postgres; what is different in MariaDB and MySQL follows below.
//
//   - ctx ends: the work stops, the session ends, the next follower leads within
//     its Poll. A work that does not stop has its session cut after a second.
//   - The work fails or returns: the same, and this process competes again after
//     a pause.
//   - The process dies: the server notices at once. In the middle of a statement
//     it notices a second later, at its next check of the connection
//     (client_connection_check_interval). That is so in Postgres 14 and newer on
//     Linux, macOS, illumos and BSD, elsewhere when the statement ends.
//   - The network goes silent: the leader notices at its next verification, or at
//     the limit of the Do that is running. Postgres notices after about ten
//     seconds, by keepalives and tcp_user_timeout. Nobody leads in between.
//   - The process is frozen, or its machine: Postgres ends the session after ten
//     seconds without a statement, in a transaction too. It does so by
//     idle_session_timeout and idle_in_transaction_session_timeout. If twice Poll
//     or Verify and Timeout is longer, it does so after that. A statement that runs may take as long as it
//     likes, but a Do must not be silent for as long. Once awake, the process gets
//     [ErrLost] from its next Do or verification.
//   - The server ends the session, restarts or fails over: the leader notices at
//     once inside of a Do, else at the next verification. Everybody reconnects.
//   - The work unlocks, resets the session or leaves a transaction open: found
//     when its Do returns, and the term is over.
//   - The server becomes read-only: the leader steps down, and nobody leads until
//     a writable one is found.
//   - A pooler is in between: [Run] returns [ErrPooled]. A lock taken through it
//     would belong to the next user of the server connection.
//
// # MariaDB and MySQL
//
//   - The lock belongs to one server, not to a database nor to a cluster: see
//     New of package mysqllock.
//   - The process dies in the middle of a statement: the server goes on with it,
//     and keeps the lock, to its end. It looks after its client only in a sleep.
//     So keep statements short.
//   - A statement is abandoned, for its limit or a context that ended: another
//     connection tells the server to end the session, which would go on with the
//     statement. The same is done about a lock whose answer got lost.
//   - The process is frozen, or the network goes silent: the server ends the
//     session after ten seconds without a statement, or twice Poll or Verify and
//     Timeout, by wait_timeout.
//   - The server becomes read-only: read_only or innodb_read_only is on, even if
//     the user could still write.
//   - A proxy is in between that gives each statement another server connection,
//     or sends reads elsewhere: [ErrPooled] as soon as connection_id says so. One
//     that keeps to a connection after GET_LOCK cannot be told from the server,
//     and should be configured not to end sessions by itself.
//
// The connection is not part of any pool, so no pool retires it, and it belongs
// to the package: it is opened, verified and closed here. Timeouts that the
// role, the database or the server set for all sessions are off for this one.
//
// A session's lock says nothing about other connections: those may lead to
// another database. Around of package pglock compares.
package leader
