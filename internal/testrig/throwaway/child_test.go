package throwaway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	osexec "os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sojourn-go/sojourn/internal/testrig/await"
	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

// childEnv makes the test binary a process that runs a server of a kind.
const childEnv = "SOJOURN_TEST_SERVER"

func TestMain(m *testing.M) {
	if i, err := strconv.Atoi(os.Getenv(childEnv)); err == nil {
		os.Exit(child(kinds[i]))
	}
	goleak.VerifyTestMain(m)
}

// child starts a server, says where, and waits for its end.
func child(k kind) int {
	s, err := k.start(context.Background(), nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.Dir(), s.Port())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// orphan is a server of another process, which kill ends.
type orphan struct {
	dir  string
	port int
	kill func()
}

// startChild runs a server in a process of its own, with tmp for temporary
// files: sweeps of others do not look there.
func startChild(t *testing.T, i int, tmp string) (o orphan) {
	t.Helper()
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strconv.Itoa(i), "TMPDIR="+tmp)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var ended bool
	o.kill = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			_ = stdin.Close()
		}
	}
	t.Cleanup(o.kill)
	if _, err := fmt.Fscan(bufio.NewReader(stdout), &o.dir, &o.port); err != nil {
		t.Fatal("the child process started no server:", err)
	}
	return o
}

// listens reports whether anybody has the server's port.
func (o orphan) listens() bool {
	conn, err := net.DialTimeout("tcp", loopback.Addr(o.port), 2*time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func TestTheServerOfAKilledProcessEndsAndItsFolderIsRemoved(t *testing.T) {
	t.Parallel()
	for i, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			k.need(t)
			tmp := folder(t)
			first := startChild(t, i, tmp)
			// Each that starts a server sweeps first.
			other := startChild(t, i, tmp)
			other.kill()
			if !first.listens() {
				t.Fatal("the server of a living process was swept")
			}
			first.kill()
			if runtime.GOOS == "linux" {
				await.True(t, "the server ends by itself", func() bool { return !first.listens() })
			}
			if _, err := os.Stat(first.dir); err != nil {
				t.Fatal(err)
			}
			startChild(t, i, tmp)
			if first.listens() {
				t.Error("the server runs after a sweep")
			}
			if _, err := os.Stat(first.dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("its folder: %v, want none", err)
			}
		})
	}
}

// folder is one for temporary files that the servers' accounts can enter, but
// not write to.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(throwaway.TempDir(), "test-")
	must(t, err, os.Chmod(dir, 0o711))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
