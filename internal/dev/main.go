// Command dev sets up what the tests need and runs them:
//
//	go run ./internal/dev test
//
// Without arguments it prints what else it can do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

const usage = `usage: go run ./internal/dev COMMAND

  setup              install what the tests need and is missing
  test               install what is missing, then check and test everything
  nightly            the proofs that take long, of which test has a sample each
  lint               gofmt, go vet, staticcheck and go mod tidy, changing nothing
  matrix [VERSION…]  test the Postgres packages against Postgres 14 to 18 (needs npm)
  bench [PATTERN]    run the benchmarks and summarise them
  mutants STORE [PATTERN]
                     look for small mistakes in a store that its tests do not
                     find, or in package session

setup and test use Postgres, PgBouncer, MariaDB, Node and Chromium as installed,
and install them with apt-get where they are run as root. MySQL they fetch from
Debian's newest suite into a cache folder; without it its tests are skipped, and
test says so at the end. PG_BIN, MARIADB_BIN and MYSQL_BIN name other folders with server programs.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "dev:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	if err := enterModule(ctx); err != nil {
		return err
	}
	r := &runner{ctx: ctx, out: out}
	command, args := args[0], args[1:]
	switch {
	case command == "setup" && len(args) == 0:
		return r.finish(r.step("setup", r.setupAll))
	case command == "test" && len(args) == 0:
		return test(r)
	case command == "nightly" && len(args) == 0:
		return nightly(r)
	case command == "lint" && len(args) == 0:
		return r.finish(lint(r))
	case command == "matrix":
		return matrix(r, args)
	case command == "bench" && len(args) <= 1:
		return bench(r, args)
	case command == "mutants" && (len(args) == 1 || len(args) == 2):
		return hunt(r, args[0], strings.Join(args[1:], ""))
	}
	return errUsage
}

// enterModule makes the module's root the current folder.
func enterModule(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env GOMOD: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if filepath.Base(file) != "go.mod" {
		return errors.New("run it inside of the repository")
	}
	return os.Chdir(filepath.Dir(file))
}
