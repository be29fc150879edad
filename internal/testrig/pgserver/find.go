package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// ErrNotInstalled is returned when no usable Postgres is found.
var ErrNotInstalled = errors.New("pgserver: no Postgres server programs found")

// Installation is a set of Postgres server programs.
type Installation struct {
	Version int    // major version, such as 15
	Release string // what the server says of itself
	BinDir  string // folder with postgres, initdb and pg_ctl
}

// Find returns the installed Postgres servers, the one to use first. When the
// environment variable PG_BIN names a folder it is the only candidate;
// otherwise Debian's folders are searched (highest version first), then
// pg_config, Homebrew and PATH. It returns ErrNotInstalled when there is none.
func Find(ctx context.Context) ([]Installation, error) {
	if dir := os.Getenv("PG_BIN"); dir != "" {
		found, err := inspect(ctx, dir)
		if err != nil {
			return nil, fmt.Errorf("pgserver: PG_BIN=%s: %w", dir, err)
		}
		return []Installation{found}, nil
	}
	var found []Installation
	for _, dir := range candidates(ctx) {
		known := func(i Installation) bool { return i.BinDir == dir }
		if slices.ContainsFunc(found, known) {
			continue
		}
		if i, err := inspect(ctx, dir); err == nil {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		return nil, ErrNotInstalled
	}
	return found, nil
}

func candidates(ctx context.Context) []string {
	dirs := versioned("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	dirs = append(dirs, versioned(
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	)...)
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// versioned lists the matches of the patterns, the highest version first.
func versioned(patterns ...string) []string {
	var dirs []string
	for _, p := range patterns {
		m, _ := filepath.Glob(p) // a constant pattern is never malformed
		dirs = append(dirs, m...)
	}
	version := func(dir string) int {
		n, _ := strconv.Atoi(digits.FindString(dir))
		return n
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	return dirs
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)\S*`)

// inspect asks the programs in dir for their version, as the user that will run
// them: programs below root's home cannot be executed by anyone else.
func inspect(ctx context.Context, dir string) (Installation, error) {
	acct, err := serverAccount()
	if err != nil {
		return Installation{}, err
	}
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return Installation{}, err
		}
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	acct.Prepare(cmd, configPrefix)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return Installation{}, fmt.Errorf("postgres --version: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return Installation{}, fmt.Errorf("postgres --version: cannot read the version from %q", out)
	}
	major, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return Installation{}, fmt.Errorf("postgres --version: %w", err)
	}
	return Installation{Version: major, Release: strings.TrimSpace(string(out)), BinDir: dir}, nil
}

// configPrefix begins the environment variables that the programs read.
const configPrefix = "PG"

func serverAccount() (*throwaway.Account, error) {
	acct, err := throwaway.ServerAccount("postgres", "nobody")
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	return acct, nil
}
