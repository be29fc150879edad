package sqlitestore

import (
	"strings"
	"testing"
)

// Each statement is one that SQLite understands, and none but those that say so
// reads the table from one end to the other, or sorts.
func TestStatementsUseIndexes(t *testing.T) {
	t.Parallel()
	s := openStore(t, newPath(t), quiet)
	texts := s.writer.conn.texts
	args := make([]any, 9) // the most that one has
	for q, text := range texts {
		if text == "" {
			t.Errorf("statement %d has no text", q)
			continue
		}
		rows, err := s.writer.conn.sql.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, args...)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Error(err)
			}
			table, scans := strings.CutPrefix(step, "SCAN ")
			if scans && query(q) != count && table != "main.sojourn_sessions_meta" && table != "CONSTANT ROW" {
				t.Errorf("%s: %s", text, step)
			}
			if sorts := strings.Contains(step, "TEMP B-TREE"); sorts && query(q) != ofUser && query(q) != ofUserBare {
				t.Errorf("%s: %s", text, step)
			}
		}
		if err := rows.Err(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
