package nodestore

import (
	"fmt"
	"time"
)

var sqlite = dialect{
	quote:    "`", // what is in double quotes and no column is a text
	prepares: true,

	exact: func(a, b string) string { return a + ` = ` + b + ` COLLATE BINARY` },
	first: func(runes int) string { return fmt.Sprintf(`substr({id}, 1, %d)`, runes) },

	dataText: `CAST({data} AS TEXT)`,

	// Read by SQLite, a text may have any offset, and what is none is NULL. An
	// expression keeps the driver from making a time of it.
	dateRead:   `CAST(round((julianday({expires}) - 2440587.5) * 86400000) AS INTEGER) * 1000`,
	dateWrite:  `{:expires}`,
	dateColumn: `julianday({expires})`,
	dateNow:    `julianday({:now})`,
	// A column of integers may hold a text, which would be greater than any.
	intRead: `CAST({expires} AS INTEGER)`,
	intNow:  `{:now}`,
	bindDate: func(t time.Time) any {
		return t.UTC().Format("2006-01-02 15:04:05.000 -07:00")
	},
	timestamp: `DATETIME`,

	insert: `INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT ({id}) DO NOTHING`,
	set: `
INSERT INTO {table} AS t ({columns}) VALUES ({values})
ON CONFLICT ({id}) DO UPDATE SET {changes} WHERE {exact t}`,

	catalog: `
SELECT c.name, lower(c.type), 0, 0,
       c."notnull" <> 0 AND c.dflt_value IS NULL AND c.pk = 0,
       c.pk = 1 AND NOT EXISTS (SELECT 1 FROM pragma_table_info({:name}) o WHERE o.pk = 2)
       OR EXISTS (
         SELECT 1 FROM pragma_index_list({:name}) l
         WHERE l."unique" <> 0 AND l.partial = 0
           AND (SELECT group_concat(i.name, char(0)) FROM pragma_index_info(l.name) i) = c.name)
FROM pragma_table_info({:name}) c
ORDER BY c.cid`,
	// A column may be declared without a type.
	kinds: map[role][]string{
		roleID:      {"varchar", "text", "char", ""},
		roleData:    {"text", "varchar", "json", "clob", ""},
		roleDate:    {"datetime", "text", "timestamp", "date", "varchar"},
		roleInteger: {"integer", "bigint", "int", "numeric", ""},
	},
}
