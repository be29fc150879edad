// Package repotest tests the repository itself.
package repotest

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// root is the repository, seen from here.
const root = "../.."

func ours(t *testing.T) []string {
	t.Helper()
	files, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// listed are the files of the repository: what git knows or would add. A
// source archive has no git: then it is every file.
var listed = sync.OnceValues(func() ([]string, error) {
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	if out, err := cmd.Output(); err == nil {
		var files []string
		for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
			if _, err := os.Stat(filepath.Join(root, name)); err == nil { // deleted, but not yet committed
				files = append(files, name)
			}
		}
		return files, nil
	}
	var files []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		if err == nil && entry.Type().IsRegular() {
			files = append(files, name)
		}
		return err
	})
	return files, err
})

type source struct {
	name string
	file *ast.File
}

// packages returns the Go files by folder and package name. Tests share them, and
// must not change them.
func packages(t *testing.T) map[string][]source {
	t.Helper()
	found, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var parsed = sync.OnceValues(func() (map[string][]source, error) {
	names, err := listed()
	found := map[string][]source{}
	errs := []error{err}
	for _, name := range names {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ParseComments)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		key := path.Dir(name) + " " + file.Name.Name
		found[key] = append(found[key], source{name, file})
	}
	if len(found) == 0 {
		errs = append(errs, errors.New("no Go files found"))
	}
	return found, errors.Join(errs...)
})

func TestEachPackageHasExactlyOnePackageComment(t *testing.T) {
	t.Parallel()
	for key, files := range packages(t) {
		if strings.HasSuffix(key, "_test") {
			continue // an external test belongs to the package it tests
		}
		var with []string
		for _, f := range files {
			if f.file.Doc == nil {
				continue
			}
			with = append(with, f.name)
			want := "Package " + f.file.Name.Name + " "
			if f.file.Name.Name != "main" && !strings.HasPrefix(f.file.Doc.Text(), want) {
				t.Errorf("%s: the package comment does not start with %q", f.name, want)
			}
		}
		if len(with) != 1 {
			t.Errorf("%s: %d package comments %v, want one", key, len(with), with)
		}
	}
}

func TestProductionCodeImportsNothingForTests(t *testing.T) {
	t.Parallel()
	allowed := []string{
		"session/sessiontest", "internal/testrig/await", "internal/testrig/dbtest", "internal/testrig/memory",
		"internal/testrig/paging", "internal/testrig/rounds",
	}
	forTests := func(imported string) bool {
		return imported == "testing" || strings.HasPrefix(imported, "testing/") ||
			strings.HasPrefix(imported, "go.uber.org/goleak") ||
			slices.ContainsFunc(allowed, func(p string) bool { return strings.HasSuffix(imported, "/sojourn/"+p) })
	}
	for _, files := range packages(t) {
		for _, f := range files {
			if strings.HasSuffix(f.name, "_test.go") || slices.Contains(allowed, path.Dir(f.name)) {
				continue
			}
			for _, spec := range f.file.Imports {
				if imported, err := strconv.Unquote(spec.Path.Value); err != nil || forTests(imported) {
					t.Errorf("%s imports %s", f.name, imported)
				}
			}
		}
	}
}

// whoIsSilent is what every option for a logger says.
const whoIsSilent = "If it is nil, warnings and errors go to the default logger of log/slog; zap.NewNop() silences them."

func TestNobodyIsSilentForWantOfALogger(t *testing.T) {
	t.Parallel()
	loggers := 0
	for key, files := range packages(t) {
		var options []string // that take a logger
		defaults := false    // calls logging.Or
		for _, f := range files {
			if strings.HasSuffix(f.name, "_test.go") {
				continue
			}
			ast.Inspect(f.file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Field:
					if len(n.Names) != 1 || n.Names[0].Name != "Logger" || !isSelector(star(n.Type), "zap", "Logger") {
						return true
					}
					options = append(options, f.name)
					if doc := strings.Join(strings.Fields(n.Doc.Text()), " "); !strings.HasSuffix(doc, whoIsSilent) {
						t.Errorf("%s: the comment on Logger does not end in %q", f.name, whoIsSilent)
					}
				case *ast.CallExpr:
					defaults = defaults || isSelector(n.Fun, "logging", "Or")
					if isSelector(n.Fun, "zap", "NewNop") {
						t.Errorf("%s: zap.NewNop: nobody hears of failures", f.name)
					}
				}
				return true
			})
		}
		if len(options) > 0 && !defaults {
			t.Errorf("%s: nothing calls logging.Or for the Logger in %v", key, options)
		}
		loggers += len(options)
	}
	if loggers == 0 {
		t.Error("no option named Logger found")
	}
}

func star(e ast.Expr) ast.Expr {
	if s, ok := e.(*ast.StarExpr); ok {
		return s.X
	}
	return e
}

func isSelector(e ast.Expr, x, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	id, ok := s.X.(*ast.Ident)
	return ok && id.Name == x && s.Sel.Name == name
}

// pattern is what no file may hold.
type pattern struct {
	*regexp.Regexp
	hints []string // one of them is in each match
}

// The patterns are written so that this file does not match them.
var forbidden = map[string]pattern{
	"the number of a rule that is defined nowhere": {regexp.MustCompile(`\bR[0-9]{2}[a-z]?\b`),
		[]string{"R0", "R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9"}},
	"the path of a folder on somebody's machine": {regexp.MustCompile(`(?m)(^|[^\w.])/(root|work|home/[a-z]\w*|Users/[A-Za-z]\w*)/\w`),
		[]string{"/root/", "/work/", "/home/", "/Users/"}},
	"a note to do something later": {regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`),
		[]string{"TO" + "DO", "FIX" + "ME", "X" + "XX"}},
}

// find returns the first match. Most lines have none, which the hints tell sooner.
func (p pattern) find(line string) string {
	if slices.ContainsFunc(p.hints, func(hint string) bool { return strings.Contains(line, hint) }) {
		return p.FindString(harmless.Replace(line))
	}
	return ""
}

// A package manager's folder on every machine of a kind.
var harmless = strings.NewReplacer("/home/linuxbrew/", "")

func TestNoFileHoldsWhatConcernsItsAuthorsOnly(t *testing.T) {
	t.Parallel()
	for _, name := range ours(t) {
		if base := path.Base(name); base == "go.sum" || base == "package-lock.json" {
			continue // hashes
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for what, p := range forbidden {
			if p.find(string(text)) == "" {
				continue
			}
			number := 0
			for line := range strings.Lines(string(text)) {
				number++
				if m := p.find(line); m != "" {
					t.Errorf("%s:%d: %q is %s", name, number, m, what)
				}
			}
		}
	}
}

func TestForbiddenPatternsFindWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ what, bad, good string }{
		{"the number of a rule that is defined nowhere", "see R" + "41", "RFC 5803, R2D2 and P1"},
		{"the path of a folder on somebody's machine", "in /ro" + "ot/x", "a/root/x and /rooted/x"},
		{"the path of a folder on somebody's machine", `"/ho` + `me/ann/x"`, "https://example.org/home/ann"},
		{"a note to do something later", "TO" + "DO: this", "todo lists"},
	} {
		p := forbidden[tt.what]
		if p.find(tt.bad) == "" {
			t.Errorf("%q does not match: it is %s", tt.bad, tt.what)
		}
		if p.find(tt.good) != "" {
			t.Errorf("%q matches, but is not %s", tt.good, tt.what)
		}
	}
}
