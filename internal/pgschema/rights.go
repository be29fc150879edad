package pgschema

// FollowRights is a query for what a partition must change to give the rights
// that its parent gives, on the table and on columns, to everybody but the
// owner: one statement a row, in column sql, to be run in order. There is none
// where nothing differs. parent and partition are SQL expressions of type oid.
//
// What differs is made anew as a whole: a right that somebody passed on can only
// be taken from the one who did.
func FollowRights(parent, partition string) string {
	return `
WITH wanted AS (` + rightsOf(parent) + `), present AS (` + rightsOf(partition) + `), differing AS (
  (SELECT * FROM wanted EXCEPT SELECT * FROM present) UNION ALL (SELECT * FROM present EXCEPT SELECT * FROM wanted)
), partition AS (
  SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = ` + partition + `
)
SELECT sql FROM (
  SELECT DISTINCT 1 AS turn, pg_catalog.format('REVOKE ALL ON %s FROM %s CASCADE', partition.name, p.role) AS sql
  FROM present AS p, partition
  UNION ALL
  SELECT 2, pg_catalog.format('GRANT %s%s ON %s TO %s%s', w.privilege_type, '(' || pg_catalog.quote_ident(w.attname) || ')',
    partition.name, w.role, CASE WHEN w.grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM wanted AS w, partition
) AS statements
WHERE EXISTS (SELECT FROM differing) ORDER BY turn`
}

// rightsOf is a query for the rights that the table gives, of whoever granted
// them.
func rightsOf(table string) string {
	return `
  SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END AS role,
    a.privilege_type, a.attname, pg_catalog.bool_or(a.is_grantable) AS grantable
  FROM (
    SELECT e.*, NULL::name AS attname, c.relowner
    FROM pg_catalog.pg_class AS c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS e WHERE c.oid = ` + table + `
    UNION ALL
    SELECT e.*, t.attname, c.relowner
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS t ON t.attrelid = c.oid AND NOT t.attisdropped
    CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) AS e WHERE c.oid = ` + table + `
  ) AS a
  LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
  WHERE a.grantee <> a.relowner AND (a.grantee = 0 OR r.rolname IS NOT NULL)
  GROUP BY 1, 2, 3`
}
