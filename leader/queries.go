package leader

import "github.com/sojourn-go/sojourn/internal/direct"

// A key of the form bigint is listed in pg_locks with its upper half in classid,
// its lower half in objid and objsubid 1; the form with two integers has 2 there.
// https://www.postgresql.org/docs/current/view-pg-locks.html
const (
	// tryLock: the CASE keeps from locking a pooler's session, where the lock
	// would stay, or a standby.
	tryLockSQL = `
SELECT me.pid, me.writes,
       CASE WHEN me.pid = $2::bigint AND me.writes THEN pg_catalog.pg_try_advisory_lock($1::bigint) ELSE false END
  FROM (SELECT pg_catalog.pg_backend_pid() AS pid,
               ` + direct.TakesWrites + ` AS writes) AS me`

	verifySQL = `
SELECT pg_catalog.pg_backend_pid(),
       ` + direct.TakesWrites + `,
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
