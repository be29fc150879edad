package mysqlserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"testing"
)

func TestServerOutlivesTheThreadThatAskedForIt(t *testing.T) {
	t.Parallel()
	skipWithout(t, MariaDB)
	var s *Server
	var thread int
	onEndingThread(func() {
		thread = syscall.Gettid()
		var err error
		if s, err = Start(t.Context(), MariaDB, Config{}); err != nil {
			t.Error(err)
		}
	})
	if s == nil {
		return
	}
	defer s.Close()
	eventually(t, "the thread is gone", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread))
		return errors.Is(err, fs.ErrNotExist)
	})
	if err := connects(t.Context(), s.DSN("")); err != nil {
		t.Error(err)
	}
	if err := s.Err(); err != nil {
		t.Error(err)
	}
}

// onEndingThread calls do on a thread that ends afterwards: the runtime ends the
// thread of a goroutine that returns locked, except for the first one.
func onEndingThread(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if syscall.Gettid() == os.Getpid() {
			onEndingThread(do) // on another one, as this one is taken
			runtime.UnlockOSThread()
			return
		}
		do()
	}()
	<-done
}
