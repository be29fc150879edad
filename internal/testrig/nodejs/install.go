package nodejs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sojourn-go/sojourn/internal/syspkg"
)

const (
	toolchain = "gcc g++ libc6-dev make python3"
	headers   = "libnode-dev"
	debian    = "/usr" // where Debian's headers are looked for
)

// Install installs Node, or what a Node that is there lacks to compile native
// modules, with apt-get, where that exists and we are root; elsewhere it
// returns an error that holds the command to run.
func Install(ctx context.Context, out io.Writer) error {
	have, err := Find(ctx)
	switch {
	case errors.Is(err, ErrNotInstalled):
		err = everything().Install(ctx, out)
	case err == nil && have.CanCompile() != nil:
		err = compiler(have).Install(ctx, out)
	}
	if err != nil {
		return fmt.Errorf("nodejs: %w", err)
	}
	return nil
}

// InstallHint is the command that installs Node and what compiles its native
// modules on this machine.
func InstallHint() string { return everything().Hint() }

func everything() syspkg.Package {
	return syspkg.Package{Debian: "nodejs npm " + headers + " " + toolchain, MacOS: "brew install node"}
}

// compiler leaves out the headers of Debian's Node where they would not be
// those of the Node in use.
func compiler(have Installation) syspkg.Package {
	p := syspkg.Package{Debian: toolchain, MacOS: "xcode-select --install"}
	if !have.hasHeaders() && have.prefix == debian {
		p.Debian += " " + headers
	}
	return p
}
