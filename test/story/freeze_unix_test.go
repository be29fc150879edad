//go:build unix

package story

import (
	"sync"
	"syscall"
	"testing"
)

// freeze stops the process of a node until resume is called.
func freeze(t *testing.T, n *node) (resume func()) {
	t.Helper()
	pid := n.process()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	})
}
