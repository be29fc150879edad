package partition

import "github.com/sojourn-go/sojourn/internal/pgschema"

// queries are the statements about the table and the row that all nodes share.
type queries struct {
	makePartition, partitions, meta, journal string
}

func newQueries(names pgschema.Names) queries {
	return queries{
		makePartition: `SELECT ` + names.MakePartition + `($1)`,

		// The bound of a partition that is being dropped reads as NULL.
		partitions: `
SELECT n.nspname, c.relname, COALESCE(pg_catalog.pg_get_expr(c.relpartbound, c.oid), ''), i.inhdetachpending
FROM pg_catalog.pg_inherits AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.inhparent = $1::text::regclass`,

		meta: `
SELECT longest_hours, width_hours, lease_ms, ` + pgschema.LongestLease + `, retire_grace_s, ` + pgschema.RetireGrace + `, foreign_keys,
       maintained_at, COALESCE(maintained_by, ''), made_at, COALESCE(made_by, ''),
       retired_at, COALESCE(retired_by, ''), thinned_at, COALESCE(thinned_by, ''),
       pg_catalog.pg_notification_queue_usage(), pg_catalog.clock_timestamp()
FROM ` + names.Meta,

		journal: `
UPDATE ` + names.Meta + ` SET
  made_at = CASE WHEN $2::boolean THEN pg_catalog.clock_timestamp() ELSE made_at END, made_by = CASE WHEN $2::boolean THEN $1::text ELSE made_by END,
  retired_at = CASE WHEN $3::boolean THEN pg_catalog.clock_timestamp() ELSE retired_at END, retired_by = CASE WHEN $3::boolean THEN $1 ELSE retired_by END,
  thinned_at = CASE WHEN $4::boolean THEN pg_catalog.clock_timestamp() ELSE thinned_at END, thinned_by = CASE WHEN $4::boolean THEN $1 ELSE thinned_by END,
  maintained_at = CASE WHEN $5::boolean THEN pg_catalog.clock_timestamp() ELSE maintained_at END, maintained_by = CASE WHEN $5::boolean THEN $1 ELSE maintained_by END`,
	}
}

// allColumns is every column of the sessions table.
const allColumns = `key, bucket, version, expires_at, deadline, created_at, user_id, data,
  ended_at, renewed_to, renewed_bucket, grace_until, chain_until`

// pinSession is for connections of maintenance, which sets its own limits.
const pinSession = `
SELECT pg_catalog.set_config('search_path', 'pg_catalog', false), pg_catalog.set_config('client_encoding', 'UTF8', false),
       pg_catalog.set_config('DateStyle', 'ISO', false), pg_catalog.set_config('TimeZone', 'UTC', false),
       pg_catalog.set_config('bytea_output', 'hex', false), pg_catalog.set_config('array_nulls', 'on', false),
       pg_catalog.set_config('default_transaction_deferrable', 'off', false),
       pg_catalog.set_config('default_transaction_isolation', 'read committed', false)`
