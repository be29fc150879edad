package repotest

import (
	"go/ast"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// declarations calls each for what a file declares: "Name", "Type.Field" or
// "Type.Method". Variables of functions are left out.
func declarations(f *ast.File, each func(name string)) {
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				each(d.Name.Name)
				continue
			}
			ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
				id, ok := n.(*ast.Ident)
				if ok {
					each(id.Name + "." + d.Name.Name)
				}
				return !ok
			})
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.ValueSpec:
					for _, name := range s.Names {
						each(name.Name)
					}
				case *ast.TypeSpec:
					each(s.Name.Name)
					ast.Inspect(s.Type, func(n ast.Node) bool {
						if field, ok := n.(*ast.Field); ok {
							for _, name := range field.Names {
								each(s.Name.Name + "." + name.Name)
							}
						}
						return true
					})
				}
			}
		}
	}
}

// declaredNames returns a file that declares it for each name, which begins with
// that of its package: "package.Name", "package.Type.Method".
func declaredNames(t *testing.T) map[string]string {
	t.Helper()
	declared := map[string]string{}
	for _, files := range packages(t) {
		for _, f := range files {
			declarations(f.file, func(name string) { declared[f.file.Name.Name+"."+name] = f.name })
		}
	}
	return declared
}

// words takes a name apart: "partOf.lockClass" are part, of, lock and class.
func words(name string) []string {
	var out []string
	var word strings.Builder
	end := func() {
		if word.Len() > 0 {
			out = append(out, strings.ToLower(word.String()))
			word.Reset()
		}
	}
	for _, r := range name {
		if unicode.IsUpper(r) || !unicode.IsLetter(r) {
			end()
		}
		if unicode.IsLetter(r) {
			word.WriteRune(r)
		}
	}
	end()
	return out
}

func TestTheWordsOfThePageAreThoseOfTheCode(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/words.md")
	if err != nil {
		t.Fatal(err)
	}
	used, unused, found := strings.Cut(string(page), "## Words that are not used")
	if !found {
		t.Fatal("words.md has no list of words that are not used")
	}

	forms := map[string]string{} // of words that are not used
	for _, row := range regexp.MustCompile(`(?m)^\| ([a-z]+) \| `).FindAllStringSubmatch(unused, -1)[1:] {
		for _, end := range []string{"", "s", "d", "r", "ly", "ing"} {
			forms[row[1]+end] = row[1]
		}
	}
	declared := declaredNames(t)
	for name, file := range declared {
		for _, word := range words(name) {
			if no := forms[word]; no != "" {
				t.Errorf("%s declares %s, and docs/words.md says not to use %q", file, name, no)
			}
		}
	}

	seen := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([a-z, ]+) \| (.+) \| (.*)\|$`).FindAllStringSubmatch(used, -1) {
		word, names := row[1], row[3]
		if word == "word" {
			continue
		}
		if seen[word] {
			t.Errorf("words.md explains %q twice", word)
		}
		seen[word] = true
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(names, -1) {
			if declared[name[1]] == "" {
				t.Errorf("words.md says that %q is %s, which is not declared", word, name[1])
			}
		}
	}
	if len(seen) < 40 || len(forms) == 0 {
		t.Errorf("words.md explains %d words, and has %d forms of words that are not used", len(seen), len(forms))
	}
}

func TestNamesAreTakenApart(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"partOf": "part of", "Store.lockClass": "store lock class", "width_hours": "width hours", "LeafWidth": "leaf width", "x2y": "x y",
	} {
		if got := strings.Join(words(name), " "); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
