package pgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestServerOutlivesTheThreadThatAskedForIt(t *testing.T) {
	t.Parallel()
	skipWithoutPostgres(t)
	var s *Server
	var thread int
	onEndingThread(func() {
		thread = syscall.Gettid()
		var err error
		if s, err = Start(t.Context(), Config{}); err != nil {
			t.Error(err)
		}
	})
	if s == nil {
		return
	}
	closeAtEnd(t, s.Close)
	eventually(t, "the thread is gone", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread))
		return errors.Is(err, fs.ErrNotExist)
	})
	for range 20 { // the signal was sent by now, but the server may not have got round to it
		if err := connects(t.Context(), s.DSN("postgres")); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(s.Log(), "immediate shutdown") {
		t.Errorf("the server was told to end:\n%s", s.Log())
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
