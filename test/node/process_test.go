package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/nodejs"
)

// patience is for one answer of Node, on a machine that is busy with others.
const patience = 5 * time.Minute

// native are the modules that have to be compiled.
var native = []string{"better-sqlite3", "sqlite3"}

var installation = sync.OnceValues(func() (installed, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	node, err := nodejs.Find(ctx)
	if err != nil {
		return installed{}, err
	}
	packages, err := node.Packages(ctx, ".", native)
	return installed{node.Node, packages}, err
})

type installed struct {
	program  string
	packages nodejs.Packages
}

// needNode returns Node with the packages. Where there is no Node the test is
// skipped, unless this is CI.
func needNode(t testing.TB) installed {
	t.Helper()
	node, err := installation()
	if errors.Is(err, nodejs.ErrNotInstalled) {
		missing(t, fmt.Errorf("%w; run: %s", err, nodejs.InstallHint()))
	}
	if err != nil {
		t.Fatal(err)
	}
	return node
}

// needNative does the same where native modules cannot be compiled.
func needNative(t testing.TB) {
	t.Helper()
	if err := needNode(t).packages.Native; err != nil {
		missing(t, err)
	}
}

func missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	t.Fatal(err)
}

// process is a script that Node runs until its standard input ends, which it
// does with the test, however that ends.
type process struct {
	output *bufio.Reader
	input  io.WriteCloser
	stop   func()
}

// start runs a script of this folder, which gets the configuration as JSON and
// prints a line once it is ready. That line is decoded into ready.
func start(t testing.TB, script string, config, ready any) *process {
	t.Helper()
	node := needNode(t)
	argument, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node.program, script, string(argument))
	cmd.Env = append(os.Environ(), "NODE_PATH="+node.packages.Dir)
	var stderr bytes.Buffer // read after Wait
	cmd.Stderr = &stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{output: bufio.NewReader(output), input: input}
	killLater := func() *time.Timer { return time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }) }
	p.stop = sync.OnceFunc(func() {
		_ = input.Close()
		defer killLater().Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s %s: %v", script, argument, err)
		}
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("%s %s printed:\n%s", script, argument, stderr.Bytes())
		}
	})
	t.Cleanup(p.stop)
	defer killLater().Stop()
	line, err := p.output.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, ready)
	}
	if err != nil {
		t.Fatalf("%s did not start: %v", script, err)
	}
	return p
}
