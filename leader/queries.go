package leader

// A key of the form bigint is listed in pg_locks with its upper half in classid,
// its lower half in objid and objsubid 1; the form with two integers has 2 there.
// https://www.postgresql.org/docs/current/view-pg-locks.html
const (
	// identify: which server process answers, and does it take writes.
	identifySQL = `
SELECT pg_catalog.pg_backend_pid(),
       pg_catalog.current_setting('transaction_read_only') = 'off' AND NOT pg_catalog.pg_is_in_recovery()`

	// unlimit: no timeout of the role, the database or a connect hook may end the
	// session. It sets those that this server knows.
	unlimitSQL = `
SELECT pg_catalog.count(pg_catalog.set_config(s.name, '0', false))
  FROM pg_catalog.pg_settings AS s
 WHERE s.name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout',
                  'idle_in_transaction_session_timeout', 'idle_session_timeout')`

	// tryLock: the CASE keeps from locking a pooler's session, where the lock
	// would stay, or a standby.
	tryLockSQL = `
SELECT me.pid, me.writes,
       CASE WHEN me.pid = $2::bigint AND me.writes THEN pg_catalog.pg_try_advisory_lock($1::bigint) ELSE false END
  FROM (SELECT pg_catalog.pg_backend_pid() AS pid,
               pg_catalog.current_setting('transaction_read_only') = 'off' AND NOT pg_catalog.pg_is_in_recovery() AS writes) AS me`

	nameSQL = `
SELECT pg_catalog.set_config('application_name', $1, false)`

	verifySQL = `
SELECT pg_catalog.pg_backend_pid(),
       pg_catalog.current_setting('transaction_read_only') = 'off' AND NOT pg_catalog.pg_is_in_recovery(),
       EXISTS (SELECT 1
                 FROM pg_catalog.pg_locks AS l
                WHERE l.locktype = 'advisory'
                  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
                  AND l.classid = ($1::bigint)::pg_catalog.oid
                  AND l.objid = ($2::bigint)::pg_catalog.oid
                  AND l.objsubid = 1
                  AND l.mode = 'ExclusiveLock'
                  AND l.granted
                  AND l.pid = pg_catalog.pg_backend_pid())`

	holderSQL = `
SELECT l.pid, coalesce(a.application_name, ''), coalesce(pg_catalog.host(a.client_addr), ''), a.backend_start
  FROM pg_catalog.pg_locks AS l
  LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
 WHERE l.locktype = 'advisory'
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
   AND l.classid = ($1::bigint)::pg_catalog.oid
   AND l.objid = ($2::bigint)::pg_catalog.oid
   AND l.objsubid = 1
   AND l.mode = 'ExclusiveLock'
   AND l.granted`
)
