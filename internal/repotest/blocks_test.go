package repotest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// blocks returns the blocks of Go code in a document.
func blocks(text string) (all []string) {
	for _, part := range strings.Split(text, "```go\n")[1:] {
		code, _, _ := strings.Cut(part, "```")
		all = append(all, code)
	}
	return all
}

// unindented is code without the tabs in front of its lines.
func unindented(code string) string {
	lines := strings.Split(code, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimLeft(line, "\t")
	}
	return strings.Join(lines, "\n")
}

// What these documents show is part of a test.
func TestCodeInDocumentsIsOfATest(t *testing.T) {
	t.Parallel()
	for document, in := range map[string]struct {
		folder string
		least  int
	}{
		"docs/http.md":      {"session/", 4},
		"docs/adapters.md":  {"test/adapters/", 1},
		"docs/migrating.md": {"test/adapters/", 3},
	} {
		page, err := os.ReadFile(filepath.Join(root, document))
		if err != nil {
			t.Fatal(err)
		}
		var tests strings.Builder
		for _, name := range ours(t) {
			if !strings.HasPrefix(name, in.folder) || !strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				t.Fatal(err)
			}
			tests.WriteString(unindented(string(text)))
		}
		all := blocks(string(page))
		for _, block := range all {
			if !strings.Contains(tests.String(), strings.TrimSuffix(unindented(block), "\n")) {
				t.Errorf("%s shows what is in no test of %s: %s", document, in.folder, block)
			}
		}
		if len(all) < in.least {
			t.Errorf("%s has %d blocks: this proves nothing", document, len(all))
		}
	}
}
