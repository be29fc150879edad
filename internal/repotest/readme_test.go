package repotest

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// testName is how documents name what shows a claim.
var testName = regexp.MustCompile("`((?:Test|Fuzz|Example|Benchmark)[A-Za-z0-9_]*)`")

func TestDocumentsNameTestsThatExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, sources := range packages(t) {
		for _, s := range sources {
			for _, decl := range s.file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok {
					known[f.Name.Name] = true
				}
			}
		}
	}
	named := 0
	for _, name := range ours(t) {
		if path.Ext(name) != ".md" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range testName.FindAllStringSubmatch(string(text), -1) {
			named++
			if !known[found[1]] {
				t.Errorf("%s names %s, which does not exist", name, found[1])
			}
		}
	}
	if named == 0 {
		t.Error("no document names a test: this proves nothing")
	}
}

// fileName is how documents name a file of the repository.
var fileName = regexp.MustCompile("`([a-z0-9_-]+(?:/[a-z0-9_-]+)*/[a-z0-9_]+[.]go)`")

func TestDocumentsNameFilesThatExist(t *testing.T) {
	t.Parallel()
	files := ours(t)
	named := 0
	for _, name := range files {
		if path.Ext(name) != ".md" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range fileName.FindAllStringSubmatch(string(text), -1) {
			named++
			if !slices.Contains(files, found[1]) {
				t.Errorf("%s names %s, which does not exist", name, found[1])
			}
		}
	}
	if named == 0 {
		t.Error("no document names a file: this proves nothing")
	}
}
