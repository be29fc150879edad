package throwaway

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

func TestAChildOutlivesTheThreadThatAskedForIt(t *testing.T) {
	t.Parallel()
	var child *Process
	var thread int
	onEndingThread(func() {
		thread = syscall.Gettid()
		cmd := exec.Command("sleep", "1000")
		(*Account)(nil).Prepare(cmd)
		var err error
		if child, err = Spawn(cmd, Terminate); err != nil {
			t.Error(err)
		}
	})
	if child == nil {
		return
	}
	gone := func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread))
		return errors.Is(err, fs.ErrNotExist)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !gone() {
		<-tick.C
	}
	// A signal of the thread's end has been sent by now, and comes before this one.
	if err := child.OS().Signal(Interrupt); err != nil {
		t.Fatal(err)
	}
	<-child.Done()
	if status := child.State().Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGINT {
		t.Errorf("it ended by %v", child.State())
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
