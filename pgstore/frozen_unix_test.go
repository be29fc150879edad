//go:build unix

package pgstore

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// A process that is stopped while it writes holds up the writes of others for
// seconds only.
func TestAStoppedProcessKeepsNoLocks(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), frozenEnv+"="+p.dsn+"\n"+p.schema)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	signal := func(sig os.Signal) {
		t.Helper()
		if err := child.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 5 {
		n := query[int](t, p, `SELECT count(*) FROM `+p.names(t).Sessions)
		dbtest.Eventually(t, "the process writes", func() bool {
			return query[int](t, p, `SELECT count(*) FROM `+p.names(t).Sessions) > n
		})
		signal(syscall.SIGSTOP)
		var writes []<-chan error
		for i := range frozenUsers {
			writes = append(writes,
				async(func() error { _, _, err := s.CreateLimited(within(t), fresh(s, fmt.Sprint(i)), twoAtMost); return err }),
				async(func() error {
					_, err := s.Put(within(t), session.Record{Key: session.ForeignKey("frozen", fmt.Sprint(i)), Data: []byte("y")})
					return err
				}))
		}
		for _, err := range results(writes) {
			if err != nil {
				t.Errorf("round %d: a write while another process is stopped: %v", round, err)
			}
		}
		signal(syscall.SIGCONT)
	}
}
