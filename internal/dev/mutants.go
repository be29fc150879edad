package main

import (
	"bufio"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// mutant is a store with a small mistake in it, which its tests have to find.
type mutant struct {
	name, file    string
	likely        string // matches the tests that are most likely to find it
	before, after string // a text that occurs once in the file, and the mistake
}

// mutantLists has a paragraph for each mutant: its name, its file and the likely
// tests, and the lines that are replaced, in the way of a diff.
//
//go:embed mutants/*.txt
var mutantLists embed.FS

// listsOf is which lists are about a store, and what comes before the names of the
// cases of its suite.
func listsOf(store string) (lists []string, cases string, ok bool) {
	switch store {
	case "memstore", "pgstore", "session": // which is not a store, and has no suite
		return []string{store}, suite + "$/", true
	case "sqlitestore":
		return []string{"sqlstore", store}, suite + "$/", true
	case "mysqlstore":
		return []string{"sqlstore", store}, suite + "$/^mariadb$/", true
	}
	return nil, "", false
}

// mutantsOf parses the lists of a store.
func mutantsOf(store string) (all []mutant, err error) {
	lists, cases, _ := listsOf(store)
	for _, list := range lists {
		text, err := mutantLists.ReadFile("mutants/" + list + ".txt")
		if err != nil {
			return nil, err
		}
		for paragraph := range strings.SplitSeq(strings.TrimSuffix(string(text), "\n"), "\n\n") {
			lines := strings.Split(paragraph, "\n")
			m := mutant{name: lines[0]}
			var before, after []string
			for i, line := range lines[1:] {
				rest := strings.TrimPrefix(line[1:], " ")
				switch {
				case i == 0:
					m.file, m.likely, _ = strings.Cut(line, ": ")
				case line[0] == '-':
					before = append(before, rest)
				case line[0] == '+':
					after = append(after, rest)
				default:
					return nil, fmt.Errorf("%s.txt: %q: a line begins neither with - nor with +: %s", list, m.name, line)
				}
			}
			m.before, m.after = strings.Join(before, "\n"), strings.Join(after, "\n")
			if !strings.HasPrefix(m.likely, "Test") {
				m.likely = cases + m.likely
			}
			all = append(all, m)
		}
	}
	return all, nil
}

// apply returns the file with the mistake. It fails if that cannot be made any more.
func (m mutant) apply() (string, error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), m.before); n != 1 {
		return "", fmt.Errorf("%q: %s has %q %d times, want once", m.name, m.file, m.before, n)
	}
	return strings.Replace(string(text), m.before, m.after, 1), nil
}

// hunt looks for mutants of a store that survive its tests: the likely ones first,
// then its suite, then the others and those of the package that has the mistake.
func hunt(r *runner, store, pattern string) error {
	_, cases, ok := listsOf(store)
	if !ok {
		return errUsage
	}
	matching, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	all, err := mutantsOf(store)
	if err != nil {
		return err
	}
	// What tests leave behind that were ended goes with it.
	home, err := os.MkdirTemp(throwaway.TempDir(), "sojourn-mutants-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	if err := os.Chmod(home, 0o711); err != nil { // servers run as other users
		return err
	}
	r.env = append(r.env, "CI=true", "TMPDIR="+home)
	right := mutant{file: store + "/store.go", before: "package " + store, after: "package " + store}
	if by, err := right.foundBy(r, home, tier{store, []string{"-test.run=" + cases + "destroy"}}); by != "" || err != nil {
		return fmt.Errorf("without a mistake: %s %w", by, cmp.Or(err, errSuite))
	}
	var tried, survived int
	for _, m := range all {
		if !matching.MatchString(m.name) {
			continue
		}
		began := time.Now()
		by, err := m.killedBy(r, store, home)
		if err != nil {
			return fmt.Errorf("%q: %w", m.name, err)
		}
		tried++
		if by == "" {
			survived++
		}
		fmt.Fprintf(r.out, "%8s  %s  %s\n", round(time.Since(began)), m.name, cmp.Or(by, "SURVIVED"))
	}
	fmt.Fprintf(r.out, "%s: %d of %d survived\n", store, survived, tried)
	return nil
}

var errSuite = errors.New("fails")

// tier is some of the tests of a package.
type tier struct {
	pkg  string
	args []string
}

// suite is the suite that all stores run, by which names their tests begin.
const suite = "^TestConformance"

// killedBy returns the first test that finds the mistake, or nothing.
func (m mutant) killedBy(r *runner, store, home string) (test string, err error) {
	own := path.Dir(m.file)
	tiers := []tier{
		{store, []string{"-test.run=" + m.likely}},
		{store, []string{"-test.run=" + suite}},
		{own, nil},
		{store, []string{"-test.skip=" + suite}},
	}
	if own == store {
		tiers = slices.Delete(tiers, 2, 3)
	}
	return m.foundBy(r, home, tiers...)
}

func (m mutant) foundBy(r *runner, home string, tiers ...tier) (test string, err error) {
	overlay, err := m.overlay(home)
	if err != nil {
		return "", err
	}
	built := map[string]bool{}
	for _, t := range tiers {
		binary := filepath.Join(home, path.Base(t.pkg)+".test")
		if !built[t.pkg] {
			err := r.command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay="+overlay, "-o", binary, "./"+t.pkg)
			if err != nil {
				return "", err
			}
			built[t.pkg] = true
		}
		if test, err = firstFailure(r, binary, t.pkg, t.args...); test != "" || err != nil {
			return test, err
		}
	}
	return "", nil
}

// overlay writes the file with the mistake, and returns the file that has the go
// command compile it in place of the right one.
func (m mutant) overlay(home string) (string, error) {
	text, err := m.apply()
	if err != nil {
		return "", err
	}
	right, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	wrong, list := filepath.Join(home, "wrong.go"), filepath.Join(home, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{right: wrong}})
	if err != nil {
		return "", err
	}
	for name, content := range map[string][]byte{wrong: []byte(text), list: replace} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return "", err
		}
	}
	return list, nil
}

// huntLimit ends tests that a mistake has made hang.
const huntLimit = "-test.timeout=20m"

// firstFailure runs tests, ends them when one of them fails, and returns its name.
func firstFailure(r *runner, binary, dir string, args ...string) (test string, err error) {
	ctx, stop := context.WithCancel(r.ctx)
	defer stop()
	// As the go command has it, results come when they are there. The servers of a
	// test program end with it.
	cmd := exec.CommandContext(ctx, binary, append(args, "-test.short", "-test.parallel=8", "-test.v=test2json", huntLimit)...)
	cmd.Dir, cmd.Env = filepath.FromSlash(dir), append(os.Environ(), r.env...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return "", err
	}
	last := ""
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for test == "" && lines.Scan() {
		if _, failed, ok := strings.Cut(lines.Text(), "--- FAIL: "); ok {
			test = failed
			stop()
		}
		last = cmp.Or(lines.Text(), last)
	}
	err = cmd.Wait()
	switch {
	case r.ctx.Err() != nil:
		return "", r.ctx.Err()
	case test == "" && err != nil: // it has crashed, or was in vain
		test = last
	}
	return test, nil
}
