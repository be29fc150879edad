package sqlmigrate_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sojourn-go/sojourn/internal/sqlmigrate"
)

func files(content ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for i := 0; i < len(content); i += 2 {
		out[content[i]] = &fstest.MapFile{Data: []byte(content[i+1])}
	}
	return out
}

func TestLoadReadsStatementsInOrder(t *testing.T) {
	t.Parallel()
	steps, err := sqlmigrate.Load(files(
		"002_more.sql", "DROP TABLE {{.b}};",
		"001_first.sql", "-- what; it does;\nCREATE TABLE {{.a}} (\n  x INT -- one; or\n);\n\n  -- and\nCREATE TABLE {{.b}} (y INT)\n;\n",
	), map[string]string{"a": "\"o;\n{{d}}d\"", "b": "b"})
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 2 || steps[0].Version != 1 || steps[0].Name != "first" || steps[1].Version != 2 || steps[1].Name != "more" {
		t.Fatalf("steps: %+v", steps)
	}
	want := []string{"CREATE TABLE \"o;\n{{d}}d\" (\n  x INT -- one; or\n)", "CREATE TABLE b (y INT)"}
	if !slices.Equal(steps[0].Statements, want) {
		t.Errorf("statements: %q; want %q", steps[0].Statements, want)
	}
	script := sqlmigrate.Script(steps)
	if !strings.Contains(script, "-- 001 first\n"+want[0]+";\n"+want[1]+";\n-- 002 more\nDROP TABLE b;\n") {
		t.Errorf("script: %s", script)
	}
}

func TestLoadRefusesFilesThatAreWrong(t *testing.T) {
	t.Parallel()
	for name, fsys := range map[string]fstest.MapFS{
		"none":             files(),
		"a gap":            files("001_a.sql", "X;", "003_b.sql", "X;"),
		"twice the number": files("001_a.sql", "X;", "001_b.sql", "X;"),
		"no number":        files("a.sql", "X;"),
		"not from one":     files("000_a.sql", "X;"),
		"a short number":   files("1_a.sql", "X;"),
		"an empty one":     files("001_a.sql", "-- nothing\n"),
		"an unknown name":  files("001_a.sql", "CREATE {{.c}};"),
		"a bad template":   files("001_a.sql", "CREATE {{;"),
	} {
		if steps, err := sqlmigrate.Load(fsys, map[string]string{"a": "a"}); err == nil {
			t.Errorf("%s: %+v", name, steps)
		}
	}
}
