package pglock

import "github.com/sojourn-go/sojourn/internal/direct"

// A key of the form bigint is listed in pg_locks with its upper half in
// classid, its lower half in objid and objsubid 1. The form with two integers
// has 2 there.
// https://www.postgresql.org/docs/current/view-pg-locks.html
const (
	// tryLock: the CASE keeps from locking a pooler's session, where the lock
	// would stay, or a standby.
	tryLockSQL = `
SELECT me.pid, me.writes,
       CASE WHEN me.pid OPERATOR(pg_catalog.=) $2::bigint AND me.writes THEN pg_catalog.pg_try_advisory_lock($1::bigint) ELSE false END
  FROM (SELECT pg_catalog.pg_backend_pid() AS pid,
               ` + direct.TakesWrites + ` AS writes) AS me`

	verifySQL = `
SELECT pg_catalog.pg_backend_pid(),
       ` + direct.TakesWrites + `,
       EXISTS (SELECT 1
                 FROM pg_catalog.pg_locks AS l
                WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory'
                  AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
                  AND l.classid OPERATOR(pg_catalog.=) ($1::bigint)::pg_catalog.oid
                  AND l.objid OPERATOR(pg_catalog.=) ($2::bigint)::pg_catalog.oid
                  AND l.objsubid OPERATOR(pg_catalog.=) 1
                  AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'
                  AND l.granted
                  AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())`

	holderSQL = `
SELECT l.pid, coalesce(a.application_name, ''), coalesce(pg_catalog.host(a.client_addr), ''), a.backend_start
  FROM pg_catalog.pg_locks AS l
  LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid OPERATOR(pg_catalog.=) l.pid
 WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory'
   AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
   AND l.classid OPERATOR(pg_catalog.=) ($1::bigint)::pg_catalog.oid
   AND l.objid OPERATOR(pg_catalog.=) ($2::bigint)::pg_catalog.oid
   AND l.objsubid OPERATOR(pg_catalog.=) 1
   AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'
   AND l.granted`
)
