package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// inputsPerFuzz is a number of inputs, since the go command can fail where a time
// is up (go.dev/issue/75804).
const inputsPerFuzz = "2000000x"

var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// fuzz lets each fuzz test look for inputs of its own. The committed ones are
// part of the tests.
func fuzz(r *runner) error {
	return filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (slices.Contains(nested, path) || strings.HasPrefix(entry.Name(), ".")):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range fuzzFunc.FindAllSubmatch(source, -1) {
			dir := "./" + filepath.ToSlash(filepath.Dir(path))
			if err := r.command("go", "test", "-run=^$", "-fuzz=^"+string(found[1])+"$", "-fuzztime="+inputsPerFuzz, dir); err != nil {
				return err
			}
		}
		return nil
	})
}
