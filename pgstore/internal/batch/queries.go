package batch

import "strings"

// Texts are the statements of batches, on one table: the parent, or a partition.
//
// Batches come as arrays sorted by bucket and key, and rows are taken in that
// order.
//
// Keys are joined by s.key = ANY (ARRAY[i.key]), not by s.key = i.key. With
// plain equality the planner may choose a merge join, which looks free on an
// empty partition. A cached plan then scans the whole index once the partition
// fills.
type Texts struct {
	LockWait             string
	Create               string
	Save, Touch, Destroy Statements
}

// Statements write the same, each with another patience.
type Statements struct {
	// Optimistic may wait a moment for a row and only tells what it has written. Lone
	// is the same for one row, given by values instead of arrays.
	Optimistic, Lone string
	// SkipLocked locks what nobody else holds before it writes, and also tells
	// what it has found. SkipLocked never waits, so it is one statement. To wait,
	// Texts.LockWait goes before it as a statement of its own, so that liveness is
	// tested after the lock is had.
	SkipLocked string
}

// batchUpdate is what a batch does to the row s, given the input row i.
type batchUpdate struct {
	inputs, arrays []string // input columns besides the key, and where they come from
	set, where     string
	live           string // whether the session was live, or is
}

// on makes both statements. Their results have the same columns: whether the
// row is as written or as found, the place in the arrays, and what is known of
// the session.
func (u batchUpdate) on(table string) Statements {
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
	return Statements{
		Optimistic: updateFrom(input),
		Lone:       updateFrom(one),

		SkipLocked: `
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

// NewTexts takes the table's name quoted and qualified.
func NewTexts(table string) *Texts {
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
	return &Texts{
		LockWait: `
SELECT FROM ROWS FROM (pg_catalog.unnest($1::bytea[]), pg_catalog.unnest($2::integer[])) WITH ORDINALITY AS u(key, bucket, n)
JOIN ` + table + ` AS s ON s.key = ANY (ARRAY[u.key]) AND s.bucket = u.bucket
ORDER BY u.n
FOR NO KEY UPDATE OF s`,

		Create: `
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

		Save:    save.on(table),
		Touch:   touch.on(table),
		Destroy: destroy.on(table),
	}
}

// LookOld is the statement that ScanState reads, on the parent.
func LookOld(parent string) string {
	return `
SELECT version, created_at, ended_at IS NULL AND expires_at > pg_catalog.clock_timestamp(), renewed_to, renewed_bucket, COALESCE(grace_until > pg_catalog.clock_timestamp(), false)
FROM ` + parent + ` WHERE key = $1 AND bucket = $2`
}

// Advisory locks of a transaction on stripes of users, shared or alone. The
// first number keeps tables apart.
const (
	busyStripes = `SELECT u.stripe FROM pg_catalog.unnest($2::integer[]) AS u(stripe) WHERE NOT pg_catalog.pg_try_advisory_xact_lock_shared($1::integer, u.stripe)`
	// WaitForStripes takes the stripes of an array, shared.
	WaitForStripes = `SELECT pg_catalog.pg_advisory_xact_lock_shared($1::integer, u.stripe) FROM (SELECT stripe FROM pg_catalog.unnest($2::integer[]) AS v(stripe) ORDER BY stripe) AS u`
	// TakeStripes takes a range of stripes alone.
	TakeStripes = `SELECT pg_catalog.pg_advisory_xact_lock($1::integer, u.stripe) FROM pg_catalog.generate_series($2::integer, $3::integer) AS u(stripe)`

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
