package pgstore

import (
	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/pgstore/internal/batch"
)

// texts are the statements that name a table: the parent's, or a partition's.
// Partitions have texts of their own because the server then neither plans nor
// locks the other partitions.
type texts struct {
	*batch.Texts
	get, fate         string
	pageKeys, pageAll string
	clear             string
}

// columns of a session in the order in which scanSession reads them.
const columns = `key, bucket, version, expires_at, deadline, created_at, user_id, data`

// newTexts takes the table's name quoted and qualified.
func newTexts(table string) *texts {
	return &texts{
		Texts: batch.NewTexts(table),

		// Only a renewed row has a grace. The time is told by the server that is
		// listened to. A dead row tells its fate; nobody is given the rest. The
		// statement may be sent alone: neither its operators nor its text depend on
		// settings.
		get: `
SELECT version, COALESCE(grace_until, expires_at), deadline, created_at, pg_catalog.convert_to(user_id, 'UTF8'), data, renewed_to, renewed_bucket,
       CASE WHEN pg_catalog.pg_postmaster_start_time() OPERATOR(pg_catalog.=) $3 THEN pg_catalog.clock_timestamp() END,
       COALESCE(ended_at IS NULL AND expires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
                OR grace_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp(), false),
       COALESCE(ended_at OPERATOR(pg_catalog.<>) expires_at, false)
FROM ` + table + `
WHERE key OPERATOR(pg_catalog.=) $1 AND bucket OPERATOR(pg_catalog.=) $2`,

		// A tombstone made by thinning ended at the moment it expired.
		fate: `
SELECT ended_at IS NULL AND expires_at > pg_catalog.clock_timestamp(), renewed_to IS NOT NULL,
       COALESCE(ended_at <> expires_at, false)
FROM ` + table + ` WHERE key = $1 AND bucket = $2`,

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
	renew, head, heads                    string
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
  WHERE o.Key = $1::bytea AND o.bucket = $2::integer AND o.version = $9::bigint
    AND o.ended_at IS NULL AND o.expires_at > pg_catalog.clock_timestamp()
    AND $5::timestamptz > pg_catalog.clock_timestamp()
    AND $6::timestamptz <= GREATEST(o.deadline, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $10::double precision))
  RETURNING s.key, s.bucket, s.version, s.expires_at, s.deadline, s.created_at
), left_behind AS (
  INSERT INTO ` + parent + ` (key, bucket, version, expires_at, deadline, created_at, ended_at, renewed_to, renewed_bucket, grace_until)
  SELECT o.Key, o.chain_until, o.version, o.expires_at, pg_catalog.to_timestamp(o.chain_until::double precision * 3600), o.created_at,
         pg_catalog.clock_timestamp(), made.key, made.bucket,
         LEAST(pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $11::double precision), o.deadline)
  FROM made, ` + parent + ` AS o
  WHERE o.Key = $1::bytea AND o.bucket = $2::integer AND o.chain_until IS NOT NULL
)
UPDATE ` + parent + ` AS o SET
  ended_at = pg_catalog.clock_timestamp(), user_id = NULL, data = NULL,
  renewed_to = made.key, renewed_bucket = made.bucket,
  grace_until = LEAST(pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $11::double precision), o.deadline)
FROM made
WHERE o.Key = $1::bytea AND o.bucket = $2::integer
RETURNING made.Version, made.expires_at, made.deadline, made.created_at`,

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
UPDATE ` + parent + ` SET version = version + $4::bigint, ended_at = pg_catalog.clock_timestamp(), user_id = NULL, data = NULL
WHERE key = $1 AND bucket = $2 AND ` + live + ` AND $3::timestamptz <= pg_catalog.clock_timestamp()
RETURNING version, deadline, created_at`,

		userList: `
SELECT ` + columns + ` FROM ` + parent + `
WHERE user_id = $1 AND ` + live + ` AND (created_at, key) > ($2::timestamptz, $3::bytea) ORDER BY created_at, key LIMIT $4`,

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

		// userEnd ends up to $2 sessions of the user, except those for which the
		// keys $3 in the buckets $4 stand. Their choice is arbitrary, as a user's
		// sessions are not in order; they are locked in the order of batches.
		userEnd: `
WITH RECURSIVE spared AS (
  SELECT v.key, v.bucket FROM ROWS FROM (pg_catalog.unnest($3::bytea[]), pg_catalog.unnest($4::integer[])) AS v(key, bucket)
  UNION
  SELECT s.renewed_to, s.renewed_bucket
  FROM spared AS v JOIN ` + parent + ` AS s ON s.key = ANY (ARRAY[v.key]) AND s.bucket = v.bucket
  WHERE s.renewed_to IS NOT NULL
), found AS MATERIALIZED (
  SELECT s.key, s.bucket FROM ` + parent + ` AS s
  WHERE s.user_id = $1 AND s.ended_at IS NULL AND NOT s.key = ANY (ARRAY(SELECT key FROM spared))
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

const heartbeat = `
SELECT pg_catalog.pg_notify($1, $2), pg_catalog.pg_postmaster_start_time(), pg_catalog.current_database()`

// takeKey locks a key that can be in any partition, until the end of the
// transaction.
const takeKey = `SELECT pg_catalog.pg_advisory_xact_lock($1::bigint)`
