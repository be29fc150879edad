-- The sessions, partitioned by the hour of their deadline, and what all nodes
-- that share them must agree on. Names and literals come quoted.

CREATE TABLE {{.sessions}} (
	key            bytea       NOT NULL,
	bucket         integer     NOT NULL,
	version        bigint      NOT NULL,
	expires_at     timestamptz NOT NULL,
	deadline       timestamptz NOT NULL,
	created_at     timestamptz NOT NULL,
	ended_at       timestamptz,
	renewed_to     bytea,
	renewed_bucket integer,
	grace_until    timestamptz,
	-- The last bucket of the keys that lead to it, where that is after its own.
	chain_until    integer,
	user_id        text,
	data           bytea,
	CONSTRAINT {{.primary_key}} PRIMARY KEY (key, bucket),
	CONSTRAINT key_is_a_hash CHECK (pg_catalog.octet_length(key) = 32),
	CONSTRAINT expires_by_the_deadline CHECK (expires_at <= deadline),
	-- bucket = ceil(hours of deadline since 1970), without numeric arithmetic.
	CONSTRAINT bucket_is_the_hour_of_the_deadline CHECK (
		deadline > pg_catalog.to_timestamp((bucket::double precision - 1) * 3600)
		AND deadline <= pg_catalog.to_timestamp(bucket::double precision * 3600)
	),
	CONSTRAINT chain_outlasts_the_bucket CHECK (chain_until > bucket),
	CONSTRAINT ended_is_empty CHECK (ended_at IS NULL OR (data IS NULL AND user_id IS NULL)),
	CONSTRAINT renewed_is_complete CHECK (
		pg_catalog.num_nulls(renewed_to, renewed_bucket, grace_until) = 3
		OR (pg_catalog.num_nulls(renewed_to, renewed_bucket, grace_until, ended_at) = 0
			AND pg_catalog.octet_length(renewed_to) = 32)
	)
) PARTITION BY RANGE (bucket);

-- No index holds a column that a touch changes, so that touches stay in place.
CREATE INDEX {{.user_index}} ON {{.sessions}} (user_id, created_at) WHERE user_id IS NOT NULL;

DO {{.quote}}
BEGIN
	IF EXISTS (
		SELECT FROM pg_catalog.pg_settings
		WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)
	) THEN
		ALTER TABLE {{.sessions}} ALTER COLUMN data SET COMPRESSION lz4;
	END IF;
END
{{.quote}};

CREATE TABLE {{.meta}} (
	id             boolean     NOT NULL DEFAULT true,
	schema_version integer     NOT NULL,
	min_compatible integer     NOT NULL,
	longest_hours  integer     NOT NULL,
	width_hours    integer     NOT NULL,
	lease_ms       integer     NOT NULL,
	-- A node that does not know of a change yet goes by the lease before.
	lease_was_ms   integer     NOT NULL DEFAULT 0,
	lease_changed_at timestamptz NOT NULL DEFAULT '-infinity',
	-- 0 is the default. What is kept by a former one is kept for as long as that.
	retire_grace_s integer     NOT NULL DEFAULT 0,
	retire_grace_was_s integer NOT NULL DEFAULT 0,
	retire_grace_changed_at timestamptz NOT NULL DEFAULT '-infinity',
	foreign_keys   boolean     NOT NULL DEFAULT false,
	created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
	changed_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
	-- The journal: when all of a duty that was due was last done, and by whom.
	made_at        timestamptz,
	made_by        text,
	retired_at     timestamptz,
	retired_by     text,
	thinned_at     timestamptz,
	thinned_by     text,
	maintained_at  timestamptz, -- a pass that left nothing undone
	maintained_by  text,
	CONSTRAINT {{.meta_key}} PRIMARY KEY (id),
	CONSTRAINT one_row CHECK (id),
	CONSTRAINT versions_in_order CHECK (min_compatible >= 1 AND min_compatible <= schema_version),
	CONSTRAINT longest_hours_in_range CHECK (longest_hours >= 1 AND longest_hours <= 87600),
	CONSTRAINT width_hours_in_range CHECK (width_hours >= 1 AND width_hours <= 87600),
	CONSTRAINT partitions_in_range CHECK ((longest_hours + 24) / width_hours <= 200),
	CONSTRAINT lease_ms_in_range CHECK (lease_ms >= 100 AND lease_ms <= 60000),
	CONSTRAINT retire_grace_s_in_range CHECK (retire_grace_s = 0 OR retire_grace_s >= 60 AND retire_grace_s <= 315360000)
);

{{template "shared/meta_row.sql" .}}

{{template "shared/make_partition.sql" .}}

-- Sessions can be created at once, also where nobody may make partitions. The
-- hour that has begun already needs none: it holds deadlines that have passed.
DO {{.quote}}
DECLARE
	first constant integer := pg_catalog.floor(extract(epoch FROM pg_catalog.clock_timestamp()) / 3600)::integer + 1;
	last  constant integer := first + {{.longest_hours}} + 24;
BEGIN
	FOR hour IN first..last BY {{.width_hours}} LOOP
		PERFORM {{.make_partition}}(hour);
	END LOOP;
	PERFORM {{.make_partition}}(last);
END
{{.quote}};
