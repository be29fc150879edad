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
	toolsMod           = "-modfile=tools/go.mod"
	toolsModFromNested = "-modfile=../tools/go.mod" // after -C
)

// nested are the folders of further modules with packages. That in tools has
// none.
var nested = []string{"bench", "test"}

// lint also checks the nested modules.
func lint(r *runner) error {
	return errors.Join(
		r.step("gofmt", func() error { return unformatted(".") }),
		r.step("go vet", func() error {
			return errors.Join(
				r.command("go", "vet", "./..."),
				r.inNested("vet", "./..."),
			)
		}),
		r.step("staticcheck", func() error {
			return errors.Join(
				r.command("go", "tool", toolsMod, "staticcheck", "./..."),
				r.inNested("tool", toolsModFromNested, "staticcheck", "./..."),
			)
		}),
		r.step("go mod tidy", func() error {
			return errors.Join(
				r.command("go", "mod", "tidy", "-diff"),
				r.inNested("mod", "tidy", "-diff"),
				r.command("go", "-C", "tools", "mod", "tidy", "-diff"),
			)
		}),
	)
}

// inNested runs the go command in each nested module.
func (r *runner) inNested(args ...string) error {
	var errs []error
	for _, dir := range nested {
		errs = append(errs, r.command("go", append([]string{"-C", dir}, args...)...))
	}
	return errors.Join(errs...)
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
