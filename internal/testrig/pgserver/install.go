package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sojourn-go/sojourn/internal/syspkg"
)

// createclusterConf is where Debian's packages look before they create and
// start a server on port 5432.
const createclusterConf = "/etc/postgresql-common/createcluster.conf"

// Install installs Postgres with apt-get, where that exists and we are root;
// elsewhere it returns an error that holds the command to run. What it does is
// written to out. No server is started and none is set up for later.
func Install(ctx context.Context, out io.Writer) error {
	if syspkg.Installable() {
		if err := noMainCluster(createclusterConf); err != nil {
			return fmt.Errorf("pgserver: %w", err)
		}
	}
	return wrapInstall(postgresPackage().Install(ctx, out))
}

// InstallBouncer does the same for PgBouncer.
func InstallBouncer(ctx context.Context, out io.Writer) error {
	return wrapInstall(bouncerPackage().Install(ctx, out))
}

// InstallHint is the command that installs Postgres on this machine.
func InstallHint() string { return postgresPackage().Hint() }

// BouncerHint is the command that installs PgBouncer on this machine.
func BouncerHint() string { return bouncerPackage().Hint() }

func postgresPackage() syspkg.Package {
	return syspkg.Package{Debian: "postgresql", MacOS: "brew install postgresql@17"}
}

func bouncerPackage() syspkg.Package {
	return syspkg.Package{Debian: "pgbouncer", MacOS: "brew install pgbouncer"}
}

func wrapInstall(err error) error {
	if err != nil {
		return fmt.Errorf("pgserver: %w", err)
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
