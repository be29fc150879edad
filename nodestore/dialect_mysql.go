package nodestore

import (
	"fmt"
	"time"
)

var mysqlOrMariaDB = dialect{
	quote:         "`",
	prepares:      true,
	countsChanges: true,

	// Usual collations ignore case, all but the newest ignore blanks at the end.
	exact: func(a, b string) string {
		return `CAST(CONVERT(` + a + ` USING utf8mb4) AS BINARY) = CAST(CONVERT(` + b + ` USING utf8mb4) AS BINARY)`
	},
	first: func(runes int) string { return fmt.Sprintf(`LEFT({id}, %d)`, runes) },

	dataText: `{data}`,

	// Neither loc nor parseTime of the driver, nor the time_zone of the
	// connection, has a say in these.
	dateRead:   `TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', {expires})`,
	dateWrite:  `{:expires}`,
	dateColumn: `{expires}`,
	dateNow:    `CAST({:now} AS DATETIME(3))`,
	intRead:    `{expires}`,
	intNow:     `{:now}`,
	// The server would round what the column cannot hold.
	bindDate: func(t time.Time) any {
		if t.Nanosecond() == 0 {
			return t.UTC().Format(time.DateTime)
		}
		return t.UTC().Format("2006-01-02 15:04:05.000")
	},
	timestamp: `DATETIME`,

	insert: `INSERT INTO {table} ({columns}) VALUES ({values})`,
	// The column of IDs cannot be NULL: so a row fails the statement that is
	// another ID's.
	set: `
INSERT INTO {table} ({columns}) VALUES ({values})
ON DUPLICATE KEY UPDATE {id} = IF({exact}, {id}, NULL), {changes}`,

	// Without the very names MariaDB would open the tables of all databases.
	catalog: `
SELECT c.COLUMN_NAME, c.COLUMN_TYPE, COALESCE(c.CHARACTER_MAXIMUM_LENGTH, 0), COALESCE(c.CHARACTER_OCTET_LENGTH, 0),
       c.IS_NULLABLE = 'NO' AND c.COLUMN_DEFAULT IS NULL AND c.EXTRA NOT LIKE '%auto_increment%' AND c.EXTRA NOT LIKE '%GENERATED%',
       c.IS_NULLABLE = 'NO' AND EXISTS (
         SELECT 1 FROM information_schema.STATISTICS s
         WHERE s.TABLE_SCHEMA = {:schema} AND s.TABLE_NAME = {:name} AND s.COLUMN_NAME = c.COLUMN_NAME
           AND s.NON_UNIQUE = 0 AND s.SEQ_IN_INDEX = 1 AND s.SUB_PART IS NULL
           AND NOT EXISTS (
             SELECT 1 FROM information_schema.STATISTICS o
             WHERE o.TABLE_SCHEMA = {:schema} AND o.TABLE_NAME = {:name} AND o.INDEX_NAME = s.INDEX_NAME
               AND o.SEQ_IN_INDEX = 2))
FROM information_schema.COLUMNS c
WHERE c.TABLE_SCHEMA = {:schema} AND c.TABLE_NAME = {:name}
  AND (@@lower_case_table_names <> 0 OR CAST(c.TABLE_NAME AS BINARY) = CAST({:name} AS BINARY))
ORDER BY c.ORDINAL_POSITION`,
	kinds: map[role][]string{
		roleID:      {"varchar", "char"},
		roleData:    {"text", "mediumtext", "longtext", "tinytext", "varchar", "json"},
		roleDate:    {"datetime"},
		roleInteger: {"bigint", "bigint unsigned", "int unsigned", "int"},
	},
}
