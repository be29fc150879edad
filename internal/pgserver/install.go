package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// createclusterConf is where Debian's packages look before they create and
// start a server on port 5432.
const createclusterConf = "/etc/postgresql-common/createcluster.conf"

// Install installs Postgres with apt-get, where that exists and we are root;
// elsewhere it returns an error that holds the command to run. What it does is
// written to out. No server is started and none is set up for later.
func Install(ctx context.Context, out io.Writer) error {
	return install(ctx, out, "postgresql", "postgresql@17")
}

// InstallBouncer does the same for PgBouncer.
func InstallBouncer(ctx context.Context, out io.Writer) error {
	return install(ctx, out, "pgbouncer", "pgbouncer")
}

// InstallHint is the command that installs Postgres on this machine.
func InstallHint() string { return hint("postgresql", "postgresql@17") }

// BouncerHint is the command that installs PgBouncer on this machine.
func BouncerHint() string { return hint("pgbouncer", "pgbouncer") }

func hint(debian, brew string) string {
	if runtime.GOOS == "darwin" {
		return "brew install " + brew
	}
	return "sudo apt-get install -y " + debian
}

func install(ctx context.Context, out io.Writer, debian, brew string) error {
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("pgserver: %s is not installed; run: %s", debian, hint(debian, brew))
	}
	if err := noMainCluster(createclusterConf); err != nil {
		return fmt.Errorf("pgserver: install %s: %w", debian, err)
	}
	for _, args := range [][]string{
		{"update", "-q"},
		{"install", "-y", "-q", "--no-install-recommends", debian},
	} {
		cmd := exec.CommandContext(ctx, apt, args...)
		fmt.Fprintln(out, "+", cmd)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("pgserver: install %s: %s: %w", debian, cmd, err)
		}
	}
	return nil
}

// noMainCluster writes the configuration unless there is one already.
func noMainCluster(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString("create_main_cluster = false\n")
	return errors.Join(err, f.Close())
}
