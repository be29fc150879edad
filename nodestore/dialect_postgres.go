package nodestore

import (
	"fmt"
	"time"
)

var postgres = dialect{
	quote:    `"`,
	numbered: true,
	returns:  true,
	types: map[string]string{
		"id": "::text", "data": "::text", "old": "::text", "after": "::text", "prefix": "::text",
		"stamp": "::timestamptz", "limit": "::bigint",
	},

	// A collation may be one that takes different texts for equal.
	exact: func(a, b string) string { return a + `::text COLLATE "C" = ` + b + ` COLLATE "C"` },
	first: func(runes int) string { return fmt.Sprintf(`left({id}::text, %d)`, runes) },

	dataText: `{data}::text`,

	// A column without time zone holds the wall clock of the connection's
	// TimeZone: the server converts, both ways.
	dateRead: `CASE WHEN isfinite({expires}) THEN (least(extract(epoch FROM {expires}::timestamptz), 8640000000000) * 1000000)::bigint
		WHEN {expires} = 'infinity' THEN 8640000000000000000 WHEN {expires} = '-infinity' THEN 0 END`,
	dateWrite:  `{:expires}::timestamptz`,
	dateColumn: `{expires}`,
	dateNow:    `{:now}::timestamptz`,
	intRead:    `{expires}`,
	intNow:     `{:now}::bigint`,
	bindDate:   func(t time.Time) any { return t },
	timestamp:  `TIMESTAMP WITH TIME ZONE`,

	insert: `
INSERT INTO {table} ({columns}) VALUES ({values})
ON CONFLICT ({id}) DO NOTHING
RETURNING {data text}`,
	set: `
INSERT INTO {table} AS t ({columns}) VALUES ({values})
ON CONFLICT ({id}) DO UPDATE SET {changes} WHERE {exact t}
RETURNING {t data text}`,

	catalog: `
SELECT a.attname::text, t.typname::text,
       CASE WHEN t.typname IN ('varchar', 'bpchar') THEN greatest(a.atttypmod - 4, 0) ELSE 0 END::bigint, 0::bigint,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '',
       EXISTS (
         SELECT FROM pg_catalog.pg_index i
         WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indnkeyatts = 1
           AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass({:quoted}::text) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum`,
	kinds: map[role][]string{
		roleID:      {"varchar", "text"},
		roleData:    {"json", "jsonb", "text", "varchar"},
		roleDate:    {"timestamptz", "timestamp"},
		roleInteger: {"int8", "int4"},
	},
}
