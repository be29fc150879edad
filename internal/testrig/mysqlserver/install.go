package mysqlserver

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"

	"github.com/sojourn-go/sojourn/internal/syspkg"
)

// Install installs a flavour where that is possible without a question;
// elsewhere it returns an error that holds the command to run. What it does is
// written to out. No server is started and none is set up for later.
//
// MariaDB is installed with apt-get, by root. MySQL is unpacked for this user
// alone, from Debian's newest suite, if Find does not find what an earlier call
// has unpacked.
func Install(ctx context.Context, f Flavour, out io.Writer) error {
	var err error
	if f == MySQL {
		err = unpack(ctx, out)
	} else {
		err = mariadbPackage().Install(ctx, out)
	}
	if err != nil {
		return fmt.Errorf("mysqlserver: install %s: %w", f, err)
	}
	return nil
}

// InstallHint is the command that installs a flavour on this machine.
func InstallHint(f Flavour) string {
	switch {
	case f == MariaDB:
		return mariadbPackage().Hint()
	case runtime.GOOS == "darwin":
		return "brew install mysql"
	}
	return "go run ./internal/dev setup"
}

// mariadbPackage has the programs alone: what mariadb-server adds is a server
// that runs. The script that makes a data folder uses a program of the clients'
// package.
func mariadbPackage() syspkg.Package {
	return syspkg.Package{Debian: "mariadb-server-core mariadb-client-core", MacOS: "brew install mariadb"}
}

// unpackable reports whether unpack has what it needs.
func unpackable() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("run: %s", InstallHint(MySQL))
	}
	for _, program := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("it is unpacked from a Debian package: %w", err)
		}
	}
	return nil
}
