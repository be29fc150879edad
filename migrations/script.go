package migrations

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"text/template"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"github.com/sojourn-go/sojourn/internal/pgschema"
)

//go:embed sql
var files embed.FS

// FS returns the migrations in tern's format, with TemplateData as their data.
func FS() fs.FS {
	sub, err := fs.Sub(files, "sql")
	if err != nil {
		return files // not reached: the name is a constant and valid
	}
	return sub
}

// TemplateData is what the templates of FS are filled with: names and literals
// quoted as SQL needs them.
func TemplateData(cfg Config) (map[string]any, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	n, err := cfg.names()
	if err != nil {
		return nil, err
	}
	stored := pgschema.ToStore(cfg.Settings)
	data := map[string]any{
		"schema":                   pgx.Identifier{n.Schema}.Sanitize(),
		"sessions":                 n.Sessions,
		"meta":                     n.Meta,
		"version":                  n.Version,
		"make_partition":           n.MakePartition,
		"primary_key":              pgx.Identifier{n.PrimaryKey}.Sanitize(),
		"user_index":               pgx.Identifier{n.UserIndex}.Sanitize(),
		"meta_key":                 pgx.Identifier{n.MetaKey}.Sanitize(),
		"schema_literal":           literal(n.Schema),
		"sessions_literal":         literal(n.Sessions),
		"meta_literal":             literal(n.Meta),
		"version_literal":          literal(n.Version),
		"make_partition_literal":   literal(n.MakePartition + "(integer)"),
		"partition_prefix_literal": literal(n.PartitionPrefix),
		"partition_mark_literal":   literal(pgschema.PartitionMark(n)),
		"migrate_key":              strconv.FormatInt(n.MigrateKey, 10),
		"ddl_key":                  strconv.FormatInt(n.DDLKey, 10),
		"marker":                   pgschema.Marker(n),
		"follow_rights":            pgschema.FollowRights("parent", "partition::regclass"),
		"quote":                    dollarQuote(n, cfg.Roles),
		"longest_hours":            stored.LongestHours,
		"width_hours":              stored.WidthHours,
		"lease_ms":                 stored.LeaseMillis,
		"retire_grace_s":           stored.RetireSeconds,
	}
	for field, role := range map[string]string{
		"owner": cfg.Roles.Owner, "maintainer": cfg.Roles.Maintainer, "app": cfg.Roles.App,
	} {
		data[field], data[field+"_literal"] = "", ""
		if role != "" {
			data[field] = pgx.Identifier{role}.Sanitize()
			data[field+"_literal"] = literal(role)
		}
	}
	return data, nil
}

// dollarQuote is a quote that occurs in none of the names.
func dollarQuote(n Names, r Roles) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{n.Schema, n.Table, r.Owner, r.Maintainer, r.App}, "\x00")))
	return "$sojourn_" + hex.EncodeToString(sum[:8]) + "$"
}

// literal quotes s as a text constant that means the same whatever
// standard_conforming_strings is.
func literal(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		quoted = "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// script is the migrations with their names filled in.
type script struct {
	steps         []*migrate.Migration
	makePartition string // makes the function, or replaces it
	metaRow       string
	roles         string // empty if there are none
}

func newScript(cfg Config, fsys fs.FS) (script, error) {
	data, err := TemplateData(cfg)
	if err != nil {
		return script{}, err
	}
	// A migrator without a connection only reads and fills in.
	m, err := migrate.NewMigrator(context.Background(), nil, "")
	if err != nil {
		return script{}, fmt.Errorf("migrations: %w", err)
	}
	m.Data = data
	if err := m.LoadMigrations(fsys); err != nil {
		return script{}, fmt.Errorf("migrations: load: %w", err)
	}
	s := script{steps: m.Migrations}
	if s.makePartition, err = fill(fsys, "shared/make_partition.sql", data); err != nil {
		return script{}, err
	}
	if s.metaRow, err = fill(fsys, "shared/meta_row.sql", data); err != nil {
		return script{}, err
	}
	if cfg.Roles != (Roles{}) {
		if s.roles, err = fill(fsys, "shared/roles.sql", data); err != nil {
			return script{}, err
		}
	}
	return s, nil
}

func fill(fsys fs.FS, file string, data map[string]any) (string, error) {
	text, err := fs.ReadFile(fsys, file)
	if err != nil {
		return "", fmt.Errorf("migrations: load: %w", err)
	}
	tmpl, err := template.New(file).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return "", fmt.Errorf("migrations: load: %w", err)
	}
	var b strings.Builder
	if err := tmpl.Execute(&b, data); err != nil {
		return "", fmt.Errorf("migrations: load: %w", err)
	}
	return b.String(), nil
}

// SQL returns every statement that leads from an empty database to the newest
// version, as one transaction. Running it, as with psql -f, gives what Up
// gives, and Up then has nothing to do.
func SQL(cfg Config) (string, error) {
	s, err := newScript(cfg, FS())
	if err != nil {
		return "", err
	}
	n, err := cfg.names()
	if err != nil {
		return "", err
	}
	quote := dollarQuote(n, cfg.Roles)
	schema := pgx.Identifier{n.Schema}.Sanitize()

	var b strings.Builder
	b.WriteString("BEGIN;\n\n")
	fmt.Fprintf(&b, "SELECT pg_catalog.pg_advisory_xact_lock(%d);\n\n", n.MigrateKey)
	fmt.Fprintf(&b, "DO %s\nBEGIN\n\tIF pg_catalog.to_regnamespace(%s) IS NULL THEN\n\t\tCREATE SCHEMA %s;\n\tEND IF;\nEND\n%s;\n\n",
		quote, literal(schema), schema, quote)
	fmt.Fprintf(&b, "CREATE TABLE %s (version integer NOT NULL);\n", n.Version)
	fmt.Fprintf(&b, "INSERT INTO %s (version) VALUES (0);\n\n", n.Version)
	for _, step := range s.steps {
		b.WriteString(step.UpSQL)
		fmt.Fprintf(&b, "\n\nUPDATE %s SET version = %d;\n\n", n.Version, step.Sequence)
	}
	b.WriteString(s.roles)
	b.WriteString("\nCOMMIT;\n")
	return b.String(), nil
}
