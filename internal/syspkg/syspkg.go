// Package syspkg installs packages of the operating system.
package syspkg

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// Package is a program under the names that package managers know it by.
type Package struct {
	Debian string // one or more packages, separated by spaces
	MacOS  string // the whole command
}

// Hint is the command that installs the package on this machine.
func (p Package) Hint() string {
	if runtime.GOOS == "darwin" {
		return p.MacOS
	}
	return "sudo apt-get install -y " + p.Debian
}

// Installable reports whether Install can work here: as root, with apt-get.
func Installable() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil && os.Geteuid() == 0
}

// Install installs the package with apt-get and writes what it does to out. No
// service is started, and no package that is in the way is removed: then it
// fails. Where that is not possible it returns an error that holds the command
// to run.
func (p Package) Install(ctx context.Context, out io.Writer) error {
	if !Installable() {
		return fmt.Errorf("%s is not installed; run: %s", p.Debian, p.Hint())
	}
	install := append([]string{"install", "-y", "-q", "--no-install-recommends", "--no-remove", "-o", "DPkg::Lock::Timeout=60"}, strings.Fields(p.Debian)...)
	for _, args := range [][]string{{"update", "-q"}, install} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		fmt.Fprintln(out, "+", strings.Join(cmd.Args, " "))
		// The last two keep the packages' scripts from starting servers.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "SYSTEMD_OFFLINE=1")
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("install %s: apt-get %s: %w", p.Debian, args[0], err)
		}
	}
	return nil
}
