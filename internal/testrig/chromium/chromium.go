// Package chromium finds the browser that tests of real browsers run.
package chromium

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"

	"github.com/sojourn-go/sojourn/internal/syspkg"
)

// ErrNotInstalled is returned when there is no Chromium and no Chrome.
var ErrNotInstalled = errors.New("chromium: not found")

// Find returns the program of PATH.
func Find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNotInstalled
}

// Install installs Chromium with apt-get if it is missing, where that exists and we
// are root; elsewhere it returns an error that holds the command to run.
func Install(ctx context.Context, out io.Writer) error {
	if _, err := Find(); err == nil {
		return nil
	}
	if err := system().Install(ctx, out); err != nil {
		return fmt.Errorf("chromium: %w", err)
	}
	return nil
}

// InstallHint is the command that installs it on this machine.
func InstallHint() string { return system().Hint() }

func system() syspkg.Package {
	return syspkg.Package{Debian: "chromium", MacOS: "brew install --cask chromium"}
}
