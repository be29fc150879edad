package mysqlserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// ErrNotInstalled is returned when no usable server of a flavour is found.
var ErrNotInstalled = errors.New("mysqlserver: no server programs found")

// Flavour is one of the two kinds of server.
type Flavour string

// The flavours, as they are called in messages.
const (
	MariaDB Flavour = "MariaDB"
	MySQL   Flavour = "MySQL"
)

// Flavours lists them.
func Flavours() []Flavour { return []Flavour{MariaDB, MySQL} }

// Installation is a server program.
type Installation struct {
	Flavour Flavour
	Version string // such as 10.11.19
	Release string // what the program says of itself
	Program string // its path

	command []string // how to run it: with the loader it was made for, perhaps
	args    []string // always given first
}

func environmentName(f Flavour) string { return strings.ToUpper(string(f)) + "_BIN" }

func programName(f Flavour) string {
	if f == MySQL {
		return "mysqld"
	}
	return "mariadbd"
}

// Find returns the installed server of a flavour to use. When the environment
// variable MARIADB_BIN or MYSQL_BIN names a folder, the program in it is the
// only candidate; otherwise the system's folders are searched, then PATH, and
// for MySQL what Install has unpacked. It returns ErrNotInstalled when there is
// none.
func Find(ctx context.Context, f Flavour) (Installation, error) {
	variable := environmentName(f)
	if dir := os.Getenv(variable); dir != "" {
		found, err := inspect(ctx, f, filepath.Join(dir, programName(f)))
		if err != nil {
			return found, fmt.Errorf("mysqlserver: %s=%s: %w", variable, dir, err)
		}
		return found, nil
	}
	for _, program := range candidates(f) {
		if found, err := inspect(ctx, f, program); err == nil {
			return found, nil
		}
	}
	if f == MySQL {
		if found, err := inspectUnpacked(ctx); err == nil {
			return found, nil
		}
	}
	return Installation{}, fmt.Errorf("%w: %s", ErrNotInstalled, f)
}

func candidates(f Flavour) []string {
	name := programName(f)
	paths := []string{"/usr/sbin/" + name, "/usr/libexec/" + name, "/usr/local/sbin/" + name}
	brew := map[Flavour]string{MariaDB: "mariadb", MySQL: "mysql"}[f]
	for _, root := range []string{"/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"} {
		m, _ := filepath.Glob(root + "/opt/" + brew + "*/bin/" + name) // a constant pattern is never malformed
		slices.Reverse(m)
		paths = append(paths, m...)
	}
	if path, err := exec.LookPath(name); err == nil {
		paths = append(paths, path)
	}
	return paths
}

// MariaDB also answers to the name mysqld.
var versionLine = regexp.MustCompile(`\bVer (\d+\.\d+\.\d+)(-MariaDB)?`)

// inspect asks a program for its version.
func inspect(ctx context.Context, f Flavour, program string) (Installation, error) {
	if _, err := os.Stat(program); err != nil {
		return Installation{}, err
	}
	inst := Installation{Flavour: f, Program: program, command: []string{program}}
	return inst, inst.ask(ctx)
}

// ask fills in the version.
func (i *Installation) ask(ctx context.Context) error {
	acct, err := serverAccount()
	if err != nil {
		return err
	}
	i.Release, err = acct.Release(i.build(ctx, "--version"), configPrefixes...)
	if err != nil {
		return err
	}
	m := versionLine.FindStringSubmatch(i.Release)
	if m == nil {
		return fmt.Errorf("%s --version: cannot read the version from %q", i.Program, i.Release)
	}
	if is := m[2] != ""; is != (i.Flavour == MariaDB) {
		return fmt.Errorf("%s is not %s: %s", i.Program, i.Flavour, i.Release)
	}
	i.Version = m[1]
	return nil
}

// build makes a command of the program with --no-defaults, its own arguments
// and these.
func (i *Installation) build(ctx context.Context, args ...string) *exec.Cmd {
	all := slices.Concat(i.command[1:], []string{"--no-defaults"}, i.args, args)
	return exec.CommandContext(ctx, i.command[0], all...)
}

// configPrefixes begin the environment variables that the programs read. The
// folder for temporary files is ours and may be out of their reach.
var configPrefixes = []string{"MYSQL", "MARIADB", "TMPDIR"}

func serverAccount() (*throwaway.Account, error) {
	acct, err := throwaway.ServerAccount("mysql", "nobody")
	if err != nil {
		return nil, fmt.Errorf("mysqlserver: %w", err)
	}
	return acct, nil
}
