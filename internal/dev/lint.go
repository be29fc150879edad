package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// nested are the folders of further modules with packages. That in tools has
// none.
var nested = []string{"adapters/ginstore", "adapters/gorillastore", "bench", "test"}

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
			path, err := buildTool(r.ctx, "staticcheck")
			if err != nil {
				return err
			}
			errs := []error{r.command(path, "./...")}
			for _, dir := range nested {
				errs = append(errs, r.commandIn(dir, r.out, path, "./..."))
			}
			return errors.Join(errs...)
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

// buildTool returns the path of a tool of tools/go.mod, which is built as users
// build programs, whatever flags the checked packages are built with.
func buildTool(ctx context.Context, name string) (path string, err error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile=tools/go.mod", "-n", name)
	cmd.Env = append(os.Environ(), unwatched)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go tool -n %s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
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
