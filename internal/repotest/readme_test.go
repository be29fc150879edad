package repotest

import (
	"os"
	"strings"
	"testing"
)

// The README's example is a function that a test runs.
func TestTheReadmeShowsTestedCode(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	tested, err := os.ReadFile("../../pgstore/example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```go\n")
	shown, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("README.md has no Go example")
	}
	if !strings.Contains(string(tested), shown) {
		t.Errorf("README.md shows what pgstore/example_test.go has not:\n%s", shown)
	}
}
