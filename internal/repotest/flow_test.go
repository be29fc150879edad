package repotest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// qualified is a name with its package's, such as "pgstore.Store.Get". That of a
// file may look alike.
var qualified = regexp.MustCompile(`\b[a-z]+\.[A-Za-z]+(?:\.[A-Za-z]+)*\b`)

func TestTheFlowNamesWhatTheCodeDeclares(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs/flow.md"))
	if err != nil {
		t.Fatal(err)
	}
	declared := declaredNames(t)
	named := 0
	for _, name := range qualified.FindAllString(string(page), -1) {
		if strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".md") {
			continue
		}
		named++
		if declared[name] == "" {
			t.Errorf("docs/flow.md names %s, which is not declared", name)
		}
	}
	if named < 40 {
		t.Errorf("docs/flow.md names %d functions: this proves nothing", named)
	}
}
