package throwaway

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"sync"
)

// releases has what programs have said of themselves to this process. Some take
// longer for that than a server takes to accept a connection.
var releases sync.Map // of string, by command line

// Release returns what a program prints when it is asked for its version. The
// account runs it: programs below root's home cannot be executed by anyone else.
func (a *Account) Release(cmd *exec.Cmd, without ...string) (string, error) {
	line := strings.Join(cmd.Args, "\x00")
	if known, ok := releases.Load(line); ok {
		return known.(string), nil
	}
	var said bytes.Buffer
	a.Prepare(cmd, without...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	release := strings.TrimSpace(string(out))
	releases.Store(line, release)
	return release, nil
}
