package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	toolsMod          = "-modfile=tools/go.mod"
	toolsModFromBench = "-modfile=../tools/go.mod" // after -C bench
)

// lint also checks the module in bench, which has packages, and that in tools,
// which has none.
func lint(r *runner) error {
	return errors.Join(
		r.step("gofmt", func() error { return unformatted(".") }),
		r.step("go vet", func() error {
			return errors.Join(
				r.command("go", "vet", "./..."),
				r.command("go", "-C", "bench", "vet", "./..."),
			)
		}),
		r.step("staticcheck", func() error {
			return errors.Join(
				r.command("go", "tool", toolsMod, "staticcheck", "./..."),
				r.command("go", "-C", "bench", "tool", toolsModFromBench, "staticcheck", "./..."),
			)
		}),
		r.step("go mod tidy", func() error {
			return errors.Join(
				r.command("go", "mod", "tidy", "-diff"),
				r.command("go", "-C", "bench", "mod", "tidy", "-diff"),
				r.command("go", "-C", "tools", "mod", "tidy", "-diff"),
			)
		}),
	)
}

// unformatted returns an error that names the Go files below dir that gofmt
// would change.
func unformatted(dir string) error {
	var found []error
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != dir && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")):
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		formatted, err := format.Source(source)
		if err != nil {
			found = append(found, fmt.Errorf("%s: %w", path, err))
		} else if !bytes.Equal(source, formatted) {
			found = append(found, fmt.Errorf("%s is not formatted", path))
		}
		return nil
	})
	return errors.Join(append(found, err)...)
}

func firstWord(s string) string {
	fields := strings.Fields(s)
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}
