package nodejs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNotInstalled is returned when there is no Node that is new enough, or no
// npm.
var ErrNotInstalled = errors.New("nodejs: Node 18 or later and npm are not both installed")

// oldest is the first major version of Node that the packages run on.
const oldest = 18

// Installation is what Find found.
type Installation struct {
	Version string // such as v20.20.2
	Node    string // program
	NPM     string // program
	prefix  string // include/node below it holds the headers
}

// Find returns the Node of PATH.
func Find(ctx context.Context) (Installation, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return Installation{}, fmt.Errorf("%w: %w", ErrNotInstalled, err)
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return Installation{}, fmt.Errorf("%w: %w", ErrNotInstalled, err)
	}
	out, err := exec.CommandContext(ctx, node, "-p", "process.version + ' ' + process.execPath").Output()
	if err != nil {
		return Installation{}, fmt.Errorf("nodejs: %s: %w", node, err)
	}
	version, path, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	digits, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if major, err := strconv.Atoi(digits); err != nil || major < oldest {
		return Installation{}, fmt.Errorf("%w: %s is %s", ErrNotInstalled, node, version)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return Installation{Version: version, Node: node, NPM: npm, prefix: filepath.Dir(filepath.Dir(path))}, nil
}

// CanCompile returns an error that says what is missing for the compilation of
// native modules, and how to install it.
func (i Installation) CanCompile() error {
	var missing []string
	for _, program := range []string{"cc", "c++", "make", "python3"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if !i.hasHeaders() {
		missing = append(missing, "Node's headers")
	}
	if missing != nil {
		return fmt.Errorf("nodejs: native modules need %s; run: %s", strings.Join(missing, ", "), InstallHint())
	}
	return nil
}

func (i Installation) hasHeaders() bool {
	_, err := os.Stat(filepath.Join(i.prefix, "include", "node", "node.h"))
	return err == nil
}
