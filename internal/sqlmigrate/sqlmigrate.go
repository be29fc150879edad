// Package sqlmigrate has what migrations of databases have in common that tern
// does not know: numbered files are read, tables compared.
package sqlmigrate

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"text/template"
)

// Step is one migration: it takes a database from the version before to
// Version.
type Step struct {
	Version    int
	Name       string
	Statements []string // without the semicolon at the end
}

// Load reads the files NNN_name.sql in the root of fsys: numbered from 001
// without a gap, each a text/template that is given names. A statement ends
// with a semicolon at the end of a line; lines that begin with -- are comments.
func Load(fsys fs.FS, names map[string]string) ([]Step, error) {
	files, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there are no migrations")
	}
	var steps []Step
	for i, file := range files { // sorted
		number, name, ok := strings.Cut(strings.TrimSuffix(path.Base(file), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if !ok || err != nil || len(number) != 3 || version != i+1 {
			return nil, fmt.Errorf("migration %s: it must be called %03d_<name>.sql", file, i+1)
		}
		statements, err := load(fsys, file, names)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", file, err)
		}
		steps = append(steps, Step{Version: version, Name: name, Statements: statements})
	}
	return steps, nil
}

func load(fsys fs.FS, file string, names map[string]string) ([]string, error) {
	text, err := fs.ReadFile(fsys, file)
	if err != nil {
		return nil, err
	}
	// Before the names are filled in, which may hold anything.
	var out []string
	for _, part := range split(string(text)) {
		t, err := template.New(file).Option("missingkey=error").Parse(part)
		if err != nil {
			return nil, err
		}
		var filled strings.Builder
		if err := t.Execute(&filled, names); err != nil {
			return nil, err
		}
		out = append(out, filled.String())
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("it has no statement")
	}
	return out, nil
}

func split(text string) (parts []string) {
	var part strings.Builder
	flush := func() {
		if s := strings.TrimSpace(part.String()); s != "" {
			parts = append(parts, s)
		}
		part.Reset()
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if strings.HasPrefix(strings.TrimSpace(line), "--") {
			continue
		}
		before, ends := strings.CutSuffix(line, ";")
		part.WriteString(before)
		if ends {
			flush()
			continue
		}
		part.WriteByte('\n')
	}
	flush()
	return parts
}

// Script is the statements of steps as one text.
func Script(steps []Step) string {
	var b strings.Builder
	for _, step := range steps {
		fmt.Fprintf(&b, "-- %03d %s\n", step.Version, step.Name)
		for _, statement := range step.Statements {
			b.WriteString(statement)
			b.WriteString(";\n")
		}
	}
	return b.String()
}
