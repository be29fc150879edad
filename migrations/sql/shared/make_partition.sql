-- make_partition returns the name of the partition that covers a bucket and makes it if
-- there is none. It runs with the rights of the tables' owner, so that a role
-- with no right to make tables can call it: it takes nothing but a number and
-- checks it.

CREATE OR REPLACE FUNCTION {{.make_partition}}(bucket integer) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS {{.quote}}
-- {{.marker}}
DECLARE
	parent  constant regclass := {{.sessions_literal}};
	space   text;     -- the schema, quoted
	owner   oid;
	width   integer;
	longest integer;
	present integer;  -- the hour that has begun
	lo      bigint;
	hi      bigint;
	other   record;
	prefix  constant text := {{.partition_prefix_literal}};
	name    text;
	partition    text;     -- the name with its schema, quoted
	rights  record;
BEGIN
	SELECT m.longest_hours, m.width_hours INTO STRICT longest, width FROM {{.meta}} AS m;
	present := floor(extract(epoch FROM clock_timestamp()) / 3600);
	IF bucket IS NULL OR bucket < present OR bucket > present + longest + greatest(48, 2 * width) THEN
		RAISE EXCEPTION 'bucket % is out of range: it must be from % to %',
			bucket, present, present + longest + greatest(48, 2 * width)
			USING ERRCODE = 'invalid_parameter_value';
	END IF;

	-- Before anything locks the parent: who waits here must not stand in the
	-- way of those who detach a partition.
	PERFORM pg_advisory_xact_lock({{.ddl_key}});

	lo := bucket - bucket % width;
	hi := lo + width;
	FOR other IN
		SELECT c.relname, i.inhdetachpending AS pending,
			CASE b[1] WHEN 'MINVALUE' THEN -2147483648 ELSE b[1]::bigint END AS lo,
			CASE b[2] WHEN 'MAXVALUE' THEN 2147483648 ELSE b[2]::bigint END AS hi
		FROM pg_inherits AS i
		JOIN pg_class AS c ON c.oid = i.inhrelid
		CROSS JOIN regexp_match(pg_get_expr(c.relpartbound, c.oid),
			'^FOR VALUES FROM [(]''?(-?[0-9]+|MINVALUE)''?[)] TO [(]''?(-?[0-9]+|MAXVALUE)''?[)]$') AS b
		WHERE i.inhparent = parent AND b IS NOT NULL
	LOOP
		IF other.lo <= bucket AND bucket < other.hi THEN
			IF other.pending THEN
				RAISE EXCEPTION 'bucket % belongs to partition %, whose detaching was interrupted', bucket, other.relname
					USING ERRCODE = 'object_not_in_prerequisite_state',
					HINT = 'ALTER TABLE ... DETACH PARTITION ... FINALIZE ends it.';
			END IF;
			RETURN other.relname;
		ELSIF other.hi <= bucket THEN
			lo := greatest(lo, other.hi);
		ELSE
			hi := least(hi, other.lo);
		END IF;
	END LOOP;

	SELECT c.relnamespace::regnamespace::text, c.relowner INTO STRICT space, owner
	FROM pg_class AS c WHERE c.oid = parent;

	-- A table of that name that is no partition now is not ours to touch.
	name := prefix || lo;
	FOR n IN 2..1000 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM pg_class AS c WHERE c.relname = name AND c.relnamespace = space::regnamespace)
			AND NOT EXISTS (SELECT FROM pg_type AS t WHERE t.typname = name AND t.typnamespace = space::regnamespace);
		IF n = 1000 THEN
			RAISE EXCEPTION 'the names % to % are all taken', prefix || lo, name
				USING ERRCODE = 'duplicate_table';
		END IF;
		name := prefix || lo || '_' || n;
	END LOOP;
	partition := format('%s.%I', space, name);

	-- CREATE TABLE ... PARTITION OF would lock the parent against everybody;
	-- ATTACH lets reads and writes go on.
	EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL) WITH (
		fillfactor = 85,
		autovacuum_vacuum_threshold = 500,
		autovacuum_vacuum_scale_factor = 0.02,
		autovacuum_vacuum_insert_scale_factor = 0.05,
		autovacuum_analyze_threshold = 500,
		autovacuum_analyze_scale_factor = 0.05,
		toast.autovacuum_vacuum_scale_factor = 0.05)', partition, parent);

	-- A plan made for an empty table reads all of it, and is kept while the table
	-- fills. So a partition is never empty: a thousand tombstones of no session, which
	-- have version 0, make the index the best way from the start.
	EXECUTE format('INSERT INTO %s (key, bucket, version, expires_at, deadline, created_at, ended_at)
		SELECT sha256(''no session'' || int4send(i)), $1, 0, long_ago, to_timestamp($1::double precision * 3600), long_ago, long_ago
		FROM generate_series(1, 1000) AS i, to_timestamp(0) AS long_ago', partition) USING bucket;

	IF owner <> (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user) THEN
		EXECUTE format('ALTER TABLE %s OWNER TO %s', partition, owner::regrole);
	END IF;
	-- Default privileges may have given it rights that the parent does not give.
	FOR rights IN {{.follow_rights}} LOOP
		EXECUTE rights.sql;
	END LOOP;
	EXECUTE format('COMMENT ON TABLE %s IS %L', partition, {{.partition_mark_literal}} || lo || ' to ' || hi);
	EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)', parent, partition, lo, hi);
	RETURN name;
END
{{.quote}};

REVOKE ALL ON FUNCTION {{.make_partition}}(integer) FROM PUBLIC;
