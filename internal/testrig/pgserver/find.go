package pgserver

import (
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

func (i Installation) program() string { return filepath.Join(i.BinDir, "postgres") }

// Find returns the installed Postgres to use. When the environment variable
// PG_BIN names a folder it is the only candidate; otherwise Debian's folders are
// searched (highest version first), then pg_config, Homebrew and PATH. It
// returns ErrNotInstalled when there is none.
func Find(ctx context.Context) (Installation, error) {
	if dir := os.Getenv("PG_BIN"); dir != "" {
		found, err := inspect(ctx, dir)
		if err != nil {
			return found, fmt.Errorf("pgserver: PG_BIN=%s: %w", dir, err)
		}
		return found, nil
	}
	for _, candidates := range []func(context.Context) []string{packaged, configured, brewed, onPath} {
		for _, dir := range candidates(ctx) {
			if found, err := inspect(ctx, dir); err == nil {
				return found, nil
			}
		}
	}
	return Installation{}, ErrNotInstalled
}

func packaged(context.Context) []string {
	return versioned("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
}

func configured(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output()
	if err != nil {
		return nil
	}
	return []string{strings.TrimSpace(string(out))}
}

func brewed(context.Context) []string {
	return versioned(
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	)
}

func onPath(context.Context) []string {
	path, err := exec.LookPath("postgres")
	if err != nil {
		return nil
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return []string{filepath.Dir(path)}
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

// inspect asks the programs in dir for their version.
func inspect(ctx context.Context, dir string) (Installation, error) {
	acct, err := serverAccount()
	if err != nil {
		return Installation{}, err
	}
	i := Installation{BinDir: dir}
	for _, path := range []string{filepath.Join(dir, "initdb"), i.program()} {
		if _, err := os.Stat(path); err != nil {
			return Installation{}, err
		}
	}
	i.Release, err = acct.Release(exec.CommandContext(ctx, i.program(), "--version"), configPrefix)
	if err != nil {
		return Installation{}, err
	}
	m := versionLine.FindStringSubmatch(i.Release)
	if m == nil {
		return Installation{}, fmt.Errorf("postgres --version: cannot read the version from %q", i.Release)
	}
	i.Version, err = strconv.Atoi(m[1])
	return i, err
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
