package nodestore

import (
	"context"
	"regexp"
	"strings"

	"github.com/sojourn-go/sojourn/internal/storekit"
)

var ddlToken = regexp.MustCompile(`\{(?:(name|lower):([^{}]*)\{\}([^{}]*)|(\w+))\}`)

// ddl fills in the names.
func (l Layout) ddl() []string {
	d := l.Dialect.dialect()
	names := map[string]string{
		"table":   qualified(l),
		"id":      d.quoted(l.Columns.ID),
		"data":    d.quoted(l.Columns.Data),
		"expires": d.quoted(l.Columns.Expires),
	}
	for _, name := range []string{l.Columns.CreatedAt, l.Columns.UpdatedAt} {
		if name != "" {
			names["timestamps"] += ", " + d.quoted(name) + " " + d.timestamp + " NOT NULL"
		}
	}
	if l.Collation != "" {
		names["collate"] = " COLLATE " + l.Collation
	}
	statements := make([]string, len(l.DDL))
	for i, text := range l.DDL {
		statements[i] = ddlToken.ReplaceAllStringFunc(text, func(token string) string {
			m := ddlToken.FindStringSubmatch(token)
			name := m[2] + l.Table + m[3]
			switch m[1] {
			case "name":
				return d.quoted(name)
			case "lower":
				return d.quoted(strings.ToLower(name))
			}
			return names[m[4]]
		})
	}
	return statements
}

// createTable makes what is missing.
func (s *Store) createTable(ctx context.Context) error {
	for _, text := range s.layout.ddl() {
		for try := 1; ; try++ {
			_, err := s.db.ExecContext(ctx, text)
			if err == nil {
				break
			}
			if !isConflict(err) && !isRace(err) || try == tries || !storekit.Backoff().Pause(ctx, try) {
				return err
			}
		}
	}
	return nil
}

// isRace reports whether somebody else was making the same table in Postgres,
// whose IF NOT EXISTS does not help against that.
func isRace(err error) bool {
	switch answerOf(err).postgres {
	case "23505", "42P07", "42710", "XX000":
		return true
	}
	return false
}
