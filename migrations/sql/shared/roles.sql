-- Group roles: the owner of everything, maintainers, who may do all that the
-- owner may, and applications, which read and write rows. What is right
-- already is left alone.
{{if .owner}}
DO {{.quote}}
DECLARE
	mine oid;
	obj  record;
BEGIN
	BEGIN
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {{.owner_literal}}) THEN
			CREATE ROLE {{.owner}} NOLOGIN;
		END IF;
	EXCEPTION WHEN duplicate_object OR unique_violation THEN
		NULL; -- Roles belong to the cluster: another database made it meanwhile.
	END;
	-- Giving an object away takes being a member of the one who gets it.
	IF NOT pg_catalog.pg_has_role({{.owner_literal}}, 'USAGE') THEN
		GRANT {{.owner}} TO CURRENT_USER;
	END IF;
	IF NOT pg_catalog.has_schema_privilege({{.owner_literal}}, {{.schema_literal}}, 'USAGE')
		OR NOT pg_catalog.has_schema_privilege({{.owner_literal}}, {{.schema_literal}}, 'CREATE') THEN
		GRANT USAGE, CREATE ON SCHEMA {{.schema}} TO {{.owner}};
	END IF;

	SELECT r.oid INTO STRICT mine FROM pg_catalog.pg_roles AS r WHERE r.rolname = {{.owner_literal}};
	FOR obj IN
		SELECT c.oid::pg_catalog.regclass AS name
		FROM pg_catalog.pg_class AS c
		WHERE c.relowner <> mine AND c.oid IN (
			SELECT {{.sessions_literal}}::pg_catalog.regclass
			UNION ALL SELECT {{.meta_literal}}::pg_catalog.regclass
			UNION ALL SELECT {{.version_literal}}::pg_catalog.regclass
			UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i
				WHERE i.inhparent = {{.sessions_literal}}::pg_catalog.regclass)
	LOOP
		EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO %s', obj.name, mine::pg_catalog.regrole);
	END LOOP;
	FOR obj IN
		SELECT p.oid::pg_catalog.regprocedure AS name
		FROM pg_catalog.pg_proc AS p
		WHERE p.proowner <> mine AND p.oid = pg_catalog.to_regprocedure({{.make_partition_literal}})
	LOOP
		EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO %s', obj.name, mine::pg_catalog.regrole);
	END LOOP;
END
{{.quote}};
{{end}}
{{if .maintainer}}
DO {{.quote}}
BEGIN
	BEGIN
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {{.maintainer_literal}}) THEN
			CREATE ROLE {{.maintainer}} NOLOGIN;
		END IF;
	EXCEPTION WHEN duplicate_object OR unique_violation THEN
		NULL;
	END;
	IF NOT pg_catalog.pg_has_role({{.maintainer_literal}}, {{.owner_literal}}, 'USAGE') THEN
		GRANT {{.owner}} TO {{.maintainer}};
	END IF;
END
{{.quote}};
{{end}}
{{if .app}}
DO {{.quote}}
DECLARE
	app oid;
	obj record;
BEGIN
	BEGIN
		IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {{.app_literal}}) THEN
			CREATE ROLE {{.app}} NOLOGIN;
		END IF;
	EXCEPTION WHEN duplicate_object OR unique_violation THEN
		NULL;
	END;
	SELECT r.oid INTO STRICT app FROM pg_catalog.pg_roles AS r WHERE r.rolname = {{.app_literal}};
	IF NOT pg_catalog.has_schema_privilege(app, {{.schema_literal}}, 'USAGE') THEN
		GRANT USAGE ON SCHEMA {{.schema}} TO {{.app}};
	END IF;
	FOR obj IN
		SELECT c.oid::pg_catalog.regclass AS name
		FROM pg_catalog.pg_class AS c
		WHERE c.oid IN (
			SELECT {{.sessions_literal}}::pg_catalog.regclass
			UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i
				WHERE i.inhparent = {{.sessions_literal}}::pg_catalog.regclass)
	LOOP
		EXECUTE pg_catalog.format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s', obj.name, app::pg_catalog.regrole);
	END LOOP;
	GRANT SELECT, UPDATE (made_at, made_by, retired_at, retired_by, thinned_at, thinned_by, maintained_at, maintained_by, foreign_keys)
		ON {{.meta}} TO {{.app}};
	IF pg_catalog.to_regprocedure({{.make_partition_literal}}) IS NOT NULL THEN
		GRANT EXECUTE ON FUNCTION {{.make_partition}}(integer) TO {{.app}};
	END IF;
END
{{.quote}};
{{end}}
