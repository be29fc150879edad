package pgstore

import (
	"strings"

	"github.com/sojourn-go/sojourn/internal/pgschema"
)

// texts are the statements that name a table: the parent's, or a partition's.
// Partitions have texts of their own because the server then neither plans nor
// locks the other partitions.
//
// Batches come as arrays sorted by bucket and key, and rows are taken in that
// order.
//
// Keys are joined by s.key = ANY (ARRAY[i.key]), not by s.key = i.key. With
// plain equality the planner may choose a merge join, which looks free on an
// empty partition. A cached plan then scans the whole index once the partition
// fills.
type texts struct {
	get, fate            string
	lockWait             string
	create               string
	save, touch, destroy batchTexts
	pageKeys, pageAll    string
	clear                string
}

// batchTexts are statements that write the same.
type batchTexts struct {
	// optimistic may wait a moment for a row and only tells what it has written. lone
	// is the same for one row, given by values instead of arrays.
	optimistic, lone string
	// skipLocked locks what nobody else holds before it writes, and also tells
	// what it has found. skipLocked never waits, so it is one statement. To wait,
	// lockWait goes before it as a statement of its own, so that liveness is
	// tested after the lock is had.
	skipLocked string
}

// columns of a session in the order in which scanSession reads them.
const columns = `key, bucket, version, expires_at, deadline, created_at, user_id, data`

// batchUpdate is what a batch does to the row s, given the input row i.
type batchUpdate struct {
	inputs, arrays []string // input columns besides the key, and where they come from
	set, where     string
	live           string // whether the session was live, or is
}

// on makes both statements. Their results have the same columns: whether the
// row is as written or as found, the place in the arrays, and what is known of
// the session.
func (u batchUpdate) on(table string) batchTexts {
	names, from, carried := "key, bucket", "pg_catalog.unnest($1::bytea[]), pg_catalog.unnest($2::integer[])", ""
	for i, name := range u.inputs {
		names += ", " + name
		carried += ", i." + name
		from += ", pg_catalog.unnest(" + u.arrays[i] + ")"
	}
	one := `(SELECT $1::bytea AS key, $2::integer AS bucket`
	for i, name := range u.inputs {
		one += ", " + strings.TrimSuffix(u.arrays[i], "[]") + " AS " + name
	}
	one += `, 1::bigint AS n) AS i`
	input := `ROWS FROM (` + from + `) WITH ORDINALITY AS i(` + names + `, n)`
	where := `
  WHERE s.key = ANY (ARRAY[i.key]) AND s.bucket = i.bucket AND s.ended_at IS NULL` + u.where
	updateFrom := func(input string) string {
		return `
UPDATE ` + table + ` AS s SET ` + u.set + `
  FROM ` + input + where + `
  RETURNING true, i.n, s.version, NULL::text, s.expires_at, s.deadline, s.created_at, ` + u.live + `, NULL::bytea, NULL::integer, false`
	}
	return batchTexts{
		optimistic: updateFrom(input),
		lone:       updateFrom(one),

		skipLocked: `
WITH l AS MATERIALIZED (
  SELECT i.n, i.key, i.bucket` + carried + `,
         s.version AS was_version, s.user_id AS was_user, s.expires_at AS was_expires, s.deadline, s.created_at,
         s.ended_at IS NULL AND s.expires_at > pg_catalog.clock_timestamp() AS live,
         s.renewed_to, s.renewed_bucket, COALESCE(s.grace_until > pg_catalog.clock_timestamp(), false) AS in_grace
  FROM ` + input + `
  JOIN ` + table + ` AS s ON s.key = ANY (ARRAY[i.key]) AND s.bucket = i.bucket
  ORDER BY i.n
  FOR NO KEY UPDATE OF s SKIP LOCKED
), w AS (
  UPDATE ` + table + ` AS s SET ` + u.set + `
  FROM l AS i` + where + `
  RETURNING i.n, s.version, s.expires_at, s.deadline, s.created_at, ` + u.live + ` AS live
)
SELECT false, n, was_version, was_user, was_expires, deadline, created_at, live, renewed_to, renewed_bucket, in_grace FROM l
UNION ALL
SELECT true, n, version, NULL, expires_at, deadline, created_at, live, NULL, NULL, false FROM w`,
	}
}

// saveEnds says that the expiry to be saved has passed, which ends the session.
// If it has not passed for the node that computed it, that node's clock is
// wrong. All places of a statement test by its start, so that they agree.
const saveEnds = `COALESCE(i.expires_at <= pg_catalog.statement_timestamp(), false)`

// newTexts takes the table's name quoted and qualified.
func newTexts(table string) *texts {
	save := batchUpdate{
		inputs: []string{"version", "expires_at", "user_id", "data", "ends", "becomes"},
		arrays: []string{"$3::bigint[]", "$4::timestamptz[]", "$5::text[]", "$6::bytea[]", "$7::boolean[]", "$8::bigint[]"},
		set: `
    version = i.becomes,
    expires_at = CASE WHEN i.expires_at IS NULL THEN s.expires_at ELSE LEAST(i.expires_at, s.deadline) END,
    ended_at = CASE WHEN ` + saveEnds + ` THEN pg_catalog.statement_timestamp() END,
    user_id = CASE WHEN NOT ` + saveEnds + ` THEN s.user_id END,
    data = CASE WHEN NOT ` + saveEnds + ` THEN i.data END`,
		where: ` AND s.expires_at > pg_catalog.clock_timestamp()
    AND s.version = i.version AND s.user_id IS NOT DISTINCT FROM i.user_id
    AND (i.ends OR NOT ` + saveEnds + `)`,
		live: `true`,
	}
	touch := batchUpdate{
		inputs: []string{"expires_at"},
		arrays: []string{"$3::timestamptz[]"},
		set:    `expires_at = LEAST(i.expires_at, s.deadline)`,
		where: ` AND s.expires_at > pg_catalog.clock_timestamp()
    AND s.expires_at < LEAST(i.expires_at, s.deadline)`,
		live: `true`,
	}
	destroy := batchUpdate{
		set:  `ended_at = pg_catalog.clock_timestamp(), user_id = NULL, data = NULL`,
		live: `s.expires_at > s.ended_at`,
	}
	return &texts{
		// Only a renewed row has a grace. The time is told by the server that is
		// listened to. It may be sent alone: neither its operators nor its text
		// depend on settings.
		get: `
SELECT version, COALESCE(grace_until, expires_at), deadline, created_at, pg_catalog.convert_to(user_id, 'UTF8'), data, renewed_to, renewed_bucket,
       CASE WHEN pg_catalog.pg_postmaster_start_time() OPERATOR(pg_catalog.=) $3 THEN pg_catalog.clock_timestamp() END
FROM ` + table + `
WHERE key OPERATOR(pg_catalog.=) $1 AND bucket OPERATOR(pg_catalog.=) $2
  AND (ended_at IS NULL AND expires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
       OR grace_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp())`,

		// A tombstone made by thinning ended at the moment it expired.
		fate: `
SELECT ended_at IS NULL AND expires_at > pg_catalog.clock_timestamp(), renewed_to IS NOT NULL,
       COALESCE(ended_at <> expires_at, false)
FROM ` + table + ` WHERE key = $1 AND bucket = $2`,

		lockWait: `
SELECT FROM ROWS FROM (pg_catalog.unnest($1::bytea[]), pg_catalog.unnest($2::integer[])) WITH ORDINALITY AS u(key, bucket, n)
JOIN ` + table + ` AS s ON s.key = ANY (ARRAY[u.key]) AND s.bucket = u.bucket
ORDER BY u.n
FOR NO KEY UPDATE OF s`,

		create: `
INSERT INTO ` + table + ` AS s (key, bucket, version, expires_at, deadline, created_at, user_id, data)
SELECT u.key, u.bucket, u.version, u.expires_at, u.deadline, pg_catalog.clock_timestamp(), u.user_id, u.data
FROM ROWS FROM (pg_catalog.unnest($1::bytea[]), pg_catalog.unnest($2::integer[]), pg_catalog.unnest($3::timestamptz[]),
     pg_catalog.unnest($4::timestamptz[]), pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::bytea[]),
     pg_catalog.unnest($7::integer[]), pg_catalog.unnest($10::bigint[])) AS u(key, bucket, expires_at, deadline, user_id, data, stripe, version)
WHERE u.expires_at > pg_catalog.clock_timestamp()
  AND u.deadline <= pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $8::double precision)
  AND pg_catalog.pg_try_advisory_xact_lock_shared($9::integer, u.stripe)
ON CONFLICT (key, bucket) DO NOTHING
RETURNING s.key, s.bucket, s.expires_at, s.deadline, s.created_at`,

		save:    save.on(table),
		touch:   touch.on(table),
		destroy: destroy.on(table),

		// One page of a walk in key order through a range of buckets; the next
		// page begins after its last key. First come all rows of the page,
		// marked if they are not ended or were renewed after $6. Then come the
		// rows that were ended here, marked if they were live.
		clear: `
WITH page AS MATERIALIZED (
  SELECT key, bucket, ended_at IS NULL AS open, renewed_to IS NOT NULL AND ended_at >= $6::timestamptz AS renewed FROM ` + table + `
  WHERE (key, bucket) OPERATOR(pg_catalog.>) ($1, $2) AND bucket >= $4::bigint AND bucket < $5::bigint
  ORDER BY key, bucket LIMIT $3
), l AS MATERIALIZED (
  SELECT s.key, s.bucket FROM page AS p JOIN ` + table + ` AS s ON s.key = ANY (ARRAY[p.key]) AND s.bucket = p.bucket
  WHERE p.open AND s.ended_at IS NULL
  ORDER BY s.bucket, s.key FOR NO KEY UPDATE OF s
), w AS (
  UPDATE ` + table + ` AS s SET ended_at = pg_catalog.clock_timestamp(), user_id = NULL, data = NULL
  FROM l WHERE s.key = ANY (ARRAY[l.key]) AND s.bucket = l.bucket AND s.ended_at IS NULL
  RETURNING s.key, s.bucket, s.expires_at > s.ended_at AS live
)
SELECT key, bucket, false, open OR renewed FROM page
UNION ALL
SELECT key, bucket, true, live FROM w`,

		pageKeys: `
SELECT key, bucket FROM ` + table + `
WHERE (key, bucket) OPERATOR(pg_catalog.>) ($1, $2) AND bucket >= $4::bigint AND bucket < $5::bigint AND ended_at IS NULL AND expires_at > pg_catalog.now()
ORDER BY key, bucket LIMIT $3`,

		pageAll: `
SELECT ` + columns + ` FROM ` + table + `
WHERE (key, bucket) OPERATOR(pg_catalog.>) ($1, $2) AND bucket >= $4::bigint AND bucket < $5::bigint AND ended_at IS NULL AND expires_at > pg_catalog.now()
ORDER BY key, bucket LIMIT $3`,
	}
}

// parentQueries are the statements that always go through the parent.
type parentQueries struct {
	probe                                 string
	lookOld, renew, head, heads           string
	putLock, putInsert, putUpdate, putEnd string
	userList, userCount, userLive         string
	end, userEnd                          string
	count                                 string
	longestLease, markForeign             string
}

func newParentQueries(parent, meta string) *parentQueries {
	const live = `ended_at IS NULL AND expires_at > pg_catalog.clock_timestamp()`
	return &parentQueries{
		// probe goes newest first and stops at the first partition that has the
		// key.
		probe: `
SELECT bucket FROM ` + parent + ` WHERE key = $1 ORDER BY bucket DESC LIMIT 1`,

		lookOld: `
SELECT version, created_at, ` + live + `, renewed_to, renewed_bucket, COALESCE(grace_until > pg_catalog.clock_timestamp(), false)
FROM ` + parent + ` WHERE key = $1 AND bucket = $2`,

		// renew finds the old row locked by a statement before. If keys that
		// lead to the old row outlast its partition, a tombstone beside the
		// last of them leads on.
		renew: `
WITH made AS (
  INSERT INTO ` + parent + ` AS s (key, bucket, version, expires_at, deadline, created_at, user_id, data, chain_until)
  SELECT $3::bytea, $4::integer, $12::bigint, $5::timestamptz, $6::timestamptz,
         CASE WHEN o.user_id IS NOT DISTINCT FROM $7::text THEN o.created_at ELSE pg_catalog.clock_timestamp() END,
         $7::text, $8::bytea,
         CASE WHEN GREATEST(o.bucket, o.chain_until) > $4::integer THEN GREATEST(o.bucket, o.chain_until) END
  FROM ` + parent + ` AS o
  WHERE o.key = $1::bytea AND o.bucket = $2::integer AND o.version = $9::bigint
    AND o.ended_at IS NULL AND o.expires_at > pg_catalog.clock_timestamp()
    AND $5::timestamptz > pg_catalog.clock_timestamp()
    AND $6::timestamptz <= GREATEST(o.deadline, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $10::double precision))
  RETURNING s.key, s.bucket, s.version, s.expires_at, s.deadline, s.created_at
), left_behind AS (
  INSERT INTO ` + parent + ` (key, bucket, version, expires_at, deadline, created_at, ended_at, renewed_to, renewed_bucket, grace_until)
  SELECT o.key, o.chain_until, o.version, o.expires_at, pg_catalog.to_timestamp(o.chain_until::double precision * 3600), o.created_at,
         pg_catalog.clock_timestamp(), made.key, made.bucket,
         LEAST(pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $11::double precision), o.deadline)
  FROM made, ` + parent + ` AS o
  WHERE o.key = $1::bytea AND o.bucket = $2::integer AND o.chain_until IS NOT NULL
)
UPDATE ` + parent + ` AS o SET
  ended_at = pg_catalog.clock_timestamp(), user_id = NULL, data = NULL,
  renewed_to = made.key, renewed_bucket = made.bucket,
  grace_until = LEAST(pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $11::double precision), o.deadline)
FROM made
WHERE o.key = $1::bytea AND o.bucket = $2::integer
RETURNING made.version, made.expires_at, made.deadline, made.created_at`,

		// head finds the end of a chain of renewals, and its user, or the last
		// row before one that is gone.
		head: `
WITH RECURSIVE c AS (
  SELECT key, bucket, user_id, renewed_to, renewed_bucket, 1 AS n FROM ` + parent + ` WHERE key = $1 AND bucket = $2
  UNION ALL
  SELECT s.key, s.bucket, s.user_id, s.renewed_to, s.renewed_bucket, c.n + 1
  FROM c JOIN ` + parent + ` AS s ON s.key = c.renewed_to AND s.bucket = c.renewed_bucket
)
SELECT key, bucket, user_id, renewed_to, renewed_bucket FROM c ORDER BY n DESC LIMIT 1`,

		// heads finds what sessions have become: the ends of their chains that
		// are not ended, and the last rows before one that is gone.
		heads: `
WITH RECURSIVE c AS (
  SELECT s.key, s.bucket, s.ended_at, s.renewed_to, s.renewed_bucket
  FROM ROWS FROM (pg_catalog.unnest($1::bytea[]), pg_catalog.unnest($2::integer[])) AS g(key, bucket) JOIN ` + parent + ` AS s ON s.key = g.key AND s.bucket = g.bucket
  UNION
  SELECT s.key, s.bucket, s.ended_at, s.renewed_to, s.renewed_bucket
  FROM c JOIN ` + parent + ` AS s ON s.key = c.renewed_to AND s.bucket = c.renewed_bucket
)
SELECT key, bucket FROM c
WHERE ended_at IS NULL
   OR renewed_to IS NOT NULL AND NOT EXISTS (SELECT FROM ` + parent + ` AS n WHERE n.key = c.renewed_to AND n.bucket = c.renewed_bucket)`,

		putLock: `
SELECT bucket, user_id, ` + live + `
FROM ` + parent + ` WHERE key = $1 ORDER BY bucket FOR NO KEY UPDATE`,

		putInsert: `
INSERT INTO ` + parent + ` AS s (key, bucket, version, expires_at, deadline, created_at, user_id, data)
SELECT $1::bytea, $2::integer, $8::bigint, $3::timestamptz, $4::timestamptz, pg_catalog.clock_timestamp(), $5::text, $6::bytea
WHERE $3::timestamptz > pg_catalog.clock_timestamp()
  AND $4::timestamptz <= pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $7::double precision)
RETURNING s.version, s.expires_at, s.deadline, s.created_at`,

		putUpdate: `
UPDATE ` + parent + ` AS s SET version = s.version + $5::bigint, data = $3::bytea,
  expires_at = CASE WHEN $4::timestamptz IS NULL THEN s.expires_at ELSE LEAST($4::timestamptz, s.deadline) END
WHERE s.key = $1::bytea AND s.bucket = $2::integer AND ` + live + `
RETURNING s.version, s.expires_at, s.deadline, s.created_at`,

		putEnd: `
UPDATE ` + parent + ` SET ended_at = pg_catalog.clock_timestamp(), user_id = NULL, data = NULL
WHERE key = $1 AND bucket = $2 AND ` + live + ` AND $3::timestamptz <= pg_catalog.clock_timestamp()
RETURNING version, deadline, created_at`,

		userList: `
SELECT ` + columns + ` FROM ` + parent + `
WHERE user_id = $1 AND ` + live + ` ORDER BY created_at, key`,

		userCount: `
SELECT pg_catalog.count(*) FROM ` + parent + ` WHERE user_id = $1 AND ` + live,

		userLive: `
SELECT key, bucket FROM ` + parent + `
WHERE user_id = $1 AND ` + live + ` AND NOT (key = $2 AND bucket = $3)
ORDER BY created_at, key`,

		// end locks rows in the order of batches.
		end: `
WITH l AS MATERIALIZED (
  SELECT s.key, s.bucket
  FROM ROWS FROM (pg_catalog.unnest($1::bytea[]), pg_catalog.unnest($2::integer[])) AS v(key, bucket)
  JOIN ` + parent + ` AS s ON s.key = ANY (ARRAY[v.key]) AND s.bucket = v.bucket
  WHERE s.ended_at IS NULL
  ORDER BY s.bucket, s.key FOR NO KEY UPDATE OF s
)
UPDATE ` + parent + ` AS s SET ended_at = pg_catalog.clock_timestamp(), user_id = NULL, data = NULL
FROM l WHERE s.key = ANY (ARRAY[l.key]) AND s.bucket = l.bucket AND s.ended_at IS NULL`,

		// userEnd ends up to $2 sessions of the user, except those with the
		// keys $3. Their choice is arbitrary, as a user's sessions are not in
		// order; they are locked in the order of batches.
		userEnd: `
WITH found AS MATERIALIZED (
  SELECT s.key, s.bucket FROM ` + parent + ` AS s
  WHERE s.user_id = $1 AND s.ended_at IS NULL AND NOT s.key = ANY ($3::bytea[])
  LIMIT $2
), victims AS MATERIALIZED (
  SELECT s.key, s.bucket FROM found AS v JOIN ` + parent + ` AS s ON s.key = ANY (ARRAY[v.key]) AND s.bucket = v.bucket
  WHERE s.ended_at IS NULL
  ORDER BY s.bucket, s.key FOR NO KEY UPDATE OF s
)
UPDATE ` + parent + ` AS s SET ended_at = pg_catalog.clock_timestamp(), user_id = NULL, data = NULL
FROM victims AS v
WHERE s.key = ANY (ARRAY[v.key]) AND s.bucket = v.bucket AND s.ended_at IS NULL
RETURNING s.expires_at > s.ended_at`,

		count: `
SELECT pg_catalog.count(*) FROM ` + parent + ` WHERE ended_at IS NULL AND expires_at > pg_catalog.now()`,

		longestLease: `
SELECT ` + pgschema.LongestLease + ` FROM ` + meta,

		markForeign: `UPDATE ` + meta + ` SET foreign_keys = true WHERE NOT foreign_keys`,
	}
}

// Advisory locks of a transaction: on a stripe of users, shared or alone, and
// on one key. The first number of the two-number form keeps tables apart.
const (
	busyStripes    = `SELECT u.stripe FROM pg_catalog.unnest($2::integer[]) AS u(stripe) WHERE NOT pg_catalog.pg_try_advisory_xact_lock_shared($1::integer, u.stripe)`
	waitForStripes = `SELECT pg_catalog.pg_advisory_xact_lock_shared($1::integer, u.stripe) FROM (SELECT stripe FROM pg_catalog.unnest($2::integer[]) AS v(stripe) ORDER BY stripe) AS u`
	takeStripes    = `SELECT pg_catalog.pg_advisory_xact_lock($1::integer, u.stripe) FROM pg_catalog.generate_series($2::integer, $3::integer) AS u(stripe)`
	takeKey        = `SELECT pg_catalog.pg_advisory_xact_lock($1::bigint)`

	// endSilent ends transactions of this role that have a part of a batch,
	// hold locks on sessions or stripes, and have not heard of their client for
	// five seconds. It asks for the part of a batch because somebody may be
	// copying into the table by hand.
	endSilent = `
SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity AS a
WHERE a.datname = pg_catalog.current_database() AND a.usename = CURRENT_USER AND a.pid <> pg_catalog.pg_backend_pid()
  AND a.state = 'active' AND a.wait_event_type = 'Client' AND a.wait_event = 'ClientRead' AND a.query !~* '^\s*copy\M'
  AND GREATEST(a.xact_start, a.state_change) < pg_catalog.clock_timestamp() - interval '5 s'
  AND EXISTS (
    SELECT FROM pg_catalog.pg_locks AS l
    WHERE l.pid = a.pid AND l.granted AND (
      l.locktype = 'advisory' AND l.classid = $2::integer::oid AND l.objsubid = 2
      OR l.locktype = 'relation' AND l.mode IN ('RowShareLock', 'RowExclusiveLock') AND (
        l.relation = $1::text::regclass OR l.relation IN (SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = $1::text::regclass))))`
)

const heartbeat = `
SELECT pg_catalog.pg_notify($1, $2), pg_catalog.pg_postmaster_start_time(), pg_catalog.current_database()`
