package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestUnformattedFilesAreNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "good.go"), "package x\n")
	write(t, filepath.Join(dir, "sub", "bad.go"), "package  x\n")
	write(t, filepath.Join(dir, "sub", "broken.go"), "pakage x\n")
	write(t, filepath.Join(dir, "testdata", "ignored.go"), "package  x\n")
	write(t, filepath.Join(dir, ".git", "ignored.go"), "package  x\n")
	err := unformatted(dir)
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{"bad.go is not formatted", "broken.go"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not say %q: %v", name, err)
		}
	}
	for _, name := range []string{"good.go", "ignored.go"} {
		if strings.Contains(err.Error(), name) {
			t.Errorf("the error names %s: %v", name, err)
		}
	}
}

func TestUnknownCommandsAreAUsageError(t *testing.T) {
	for _, args := range [][]string{nil, {"tests"}, {"test", "x"}, {"nightly", "x"}, {"bench", "a", "b"}, {"mutants"}, {"mutants", "redisstore"}} {
		if err := run(t.Context(), args, &bytes.Buffer{}); !errors.Is(err, errUsage) {
			t.Errorf("%q: got %v, want the usage", args, err)
		}
	}
}

func TestFailedStepIsReportedWithItsName(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := &runner{ctx: context.Background(), out: &out}
	r.note("%d things to know", 2)
	boom := errors.New("boom")
	err := r.finish(errors.Join(
		r.step("first", func() error { return nil }),
		r.step("second", func() error { return boom }),
	))
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "second") {
		t.Errorf("got %v, want boom in the second step", err)
	}
	for _, line := range []string{"ok           0s  first\n", "FAILED       0s  second\n", "NOTE             2 things to know\n"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("the summary lacks %q:\n%s", line, out.String())
		}
	}
}

func TestUnknownVersionIsRefusedBeforeAnythingHappens(t *testing.T) {
	t.Parallel()
	err := matrix(&runner{ctx: t.Context(), out: &bytes.Buffer{}}, []string{"13"})
	if err == nil || !strings.Contains(err.Error(), "13") {
		t.Errorf("got %v, want an error that names version 13", err)
	}
}

func TestHydrateMakesTheListedLinks(t *testing.T) {
	t.Parallel()
	link := func(source, target string) []map[string]string {
		return []map[string]string{{"source": source, "target": target}}
	}
	for _, tt := range []struct {
		name  string
		links any
		fails bool
	}{
		{"a library", link("native/lib/libpq.so.5.18", "native/lib/libpq.so.5"), false},
		{"out of the package", link("native/lib/libpq.so.5.18", "../../stolen"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "node_modules", "pg18")
			write(t, filepath.Join(dir, "native", "lib", "libpq.so.5.18"), "library")
			text, err := json.Marshal(tt.links)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "native", "pg-symlinks.json"), string(text))
			for range 2 { // what is there already is left alone
				if err := hydrate(dir); (err != nil) != tt.fails {
					t.Fatalf("got %v, fails: %v", err, tt.fails)
				}
			}
			if got, err := os.ReadFile(filepath.Join(dir, "native", "lib", "libpq.so.5")); !tt.fails && string(got) != "library" {
				t.Errorf("through the link: %q and %v", got, err)
			}
		})
	}
}

func TestEveryModuleOfTheRepositoryIsChecked(t *testing.T) {
	if err := enterModule(t.Context()); err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, pattern := range []string{"*/go.mod", "*/*/go.mod"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if dir := filepath.Dir(file); dir != "tools" {
				found = append(found, dir)
			}
		}
	}
	slices.Sort(found)
	if !slices.Equal(found, nested) {
		t.Errorf("the modules are in %q, checked are %q", found, nested)
	}
}

func TestTheTimesOfPackagesAreReadOffTheTests(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	watch := &stopwatch{out: &out}
	const text = "ok  \texample.org/quick\t0.004s\n?   \texample.org/none\t[no test files]\n--- FAIL: TestX (70.00s)\n" +
		"FAIL\texample.org/slow\t61.5s\nok  \texample.org/cached\t(cached)\nok  \texample.org/usual\t12.345s\tcoverage: 3% of statements\nFAIL\n"
	for _, b := range []byte(text) { // lines come in parts
		if _, err := watch.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if out.String() != text {
		t.Errorf("passed on was %q", out.String())
	}
	r := &runner{ctx: t.Context(), out: &out, tests: watch.found}
	if err := r.finish(nil); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("tests  %8s  example.org/slow\ntests  %8s  example.org/usual\n\n", "1m1.5s", "12.3s")
	if got := strings.TrimPrefix(out.String(), text); got != "\n"+want {
		t.Errorf("the times are %q, want %q", got, want)
	}
}

// A mistake that can no longer be made proves nothing.
func TestEveryMutantOfAStoreCanBeMade(t *testing.T) {
	if err := enterModule(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, store := range []string{"memstore", "sqlitestore", "mysqlstore", "pgstore", "session"} {
		all, err := mutantsOf(store)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, m := range all {
			if text, err := m.apply(); err != nil {
				t.Error(err)
			} else if _, err := parser.ParseFile(token.NewFileSet(), m.file, text, 0); err != nil {
				t.Errorf("%q: %v", m.name, err)
			}
			names[m.name] = true
		}
		if len(names) < 40 || len(names) < len(all) {
			t.Errorf("%s has %d mutants of %d names, want 40", store, len(all), len(names))
		}
	}
}
