package repotest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxSentence = 30  // words
	maxColumns  = 118 // of a line
)

// proseLine is a line of a document that is neither code nor a row of a table.
type proseLine struct {
	number int
	text   string
}

// prose returns the lines of a document without its blocks of code and its
// tables. An empty line stands for each line of those.
func prose(text string) []proseLine {
	var lines []proseLine
	inCode := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		trimmed := strings.TrimSpace(line)
		fence := strings.HasPrefix(trimmed, "```")
		if fence {
			inCode = !inCode
		}
		if fence || inCode || strings.HasPrefix(trimmed, "|") {
			line = ""
		}
		lines = append(lines, proseLine{len(lines) + 1, line})
	}
	return lines
}

// sentence is one of a document, with the line on which it begins.
type sentence struct {
	line  int
	words []string
}

var (
	beginsBlock  = regexp.MustCompile(`^\s*([-*]|[0-9]+\.|#+) `)
	endsSentence = regexp.MustCompile(`[.!?][)"*_]*$`)
)

// sentences takes prose apart. A sentence ends with a full stop, a question mark
// or an exclamation mark, and with its paragraph, heading or item of a list.
func sentences(lines []proseLine) []sentence {
	var found []sentence
	var now sentence
	end := func() {
		if len(now.words) > 0 {
			found = append(found, now)
		}
		now = sentence{}
	}
	for _, line := range lines {
		text := line.text
		if mark := beginsBlock.FindString(text); mark != "" {
			end()
			text = text[len(mark):]
		}
		fields := strings.Fields(text)
		if len(fields) == 0 {
			end()
		}
		for _, word := range fields {
			if len(now.words) == 0 {
				now.line = line.number
			}
			now.words = append(now.words, word)
			if endsSentence.MatchString(word) {
				end()
			}
		}
		if strings.HasPrefix(line.text, "#") {
			end()
		}
	}
	end()
	return found
}

func TestTheDesignIsToldInShortSentences(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs/design.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := sentences(prose(string(text)))
	for _, s := range all {
		if len(s.words) > maxSentence {
			t.Errorf("docs/design.md:%d: a sentence of %d words: %s", s.line, len(s.words), strings.Join(s.words, " "))
		}
	}
	if len(all) < 100 {
		t.Errorf("docs/design.md has %d sentences: this proves nothing", len(all))
	}
}

func TestLinesOfDocumentsFitOnAScreen(t *testing.T) {
	t.Parallel()
	documents := 0
	for _, name := range ours(t) {
		if matched, _ := filepath.Match("docs/*.md", name); !matched {
			continue
		}
		documents++
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range prose(string(text)) {
			if columns := utf8.RuneCountInString(line.text); columns > maxColumns {
				t.Errorf("%s:%d: %d columns, at most %d are wanted", name, line.number, columns, maxColumns)
			}
		}
	}
	if documents == 0 {
		t.Error("docs holds no document: this proves nothing")
	}
}

func TestSentencesAreTakenApart(t *testing.T) {
	t.Parallel()
	const document = "# A heading\n" +
		"One ends here. **Two ends.** Three goes\non (it ends here.) Four: 2.5 s\n\n" +
		"1. An item\n2. Another one.\n\n" +
		"| a | row. |\n```\ncode. code.\n```\nFive?\n"
	var got []string
	for _, s := range sentences(prose(document)) {
		got = append(got, strings.Join(s.words, " "))
	}
	want := []string{
		"A heading", "One ends here.", "**Two ends.**", "Three goes on (it ends here.)", "Four: 2.5 s",
		"An item", "Another one.", "Five?",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
