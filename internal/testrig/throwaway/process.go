package throwaway

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// Process is a running child with one goroutine that waits for its end.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the child has been reaped
}

// Spawn starts cmd, which an Account has prepared, so that it is sent onDeath
// when we die.
func Spawn(cmd *exec.Cmd, onDeath os.Signal) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux sends the parent death signal when the thread that forked ends,
		// so that thread is kept for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		setDeathSignal(cmd, onDeath)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // cmd.ProcessState says how it ended
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, err
	}
	return p, nil
}

// Done is closed when the child has ended and its State is known.
func (p *Process) Done() <-chan struct{} { return p.done }

// State says how the child ended. It is nil before Done.
func (p *Process) State() *os.ProcessState {
	if p.Alive() {
		return nil
	}
	return p.cmd.ProcessState
}

// OS is the child as the operating system knows it.
func (p *Process) OS() *os.Process { return p.cmd.Process }

// Alive reports whether the child runs. A nil Process does not.
func (p *Process) Alive() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Ended waits for the end of the child, at most d.
func (p *Process) Ended(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// pauseTree stops a process, so that it starts no more children, and those that
// it has. It returns them.
func pauseTree(ctx context.Context, parent *os.Process) (children []*os.Process, err error) {
	if err := parent.Signal(Pause); err != nil {
		return nil, err
	}
	pids, err := Children(ctx, parent.Pid)
	for _, pid := range pids {
		if child, err := os.FindProcess(pid); err == nil && child.Signal(Pause) == nil {
			children = append(children, child)
		}
	}
	return children, err
}

// killTree ends a process and its children without a chance to say goodbye, and
// waits until they are gone: until then they hold shared memory, and the home
// cannot be used again.
func killTree(ctx context.Context, parent *os.Process) {
	children, _ := pauseTree(ctx, parent) // without the list the parent's death still ends them, only later
	for _, p := range append(children, parent) {
		_ = p.Kill()
	}
	for _, p := range append(children, parent) {
		awaitEnd(ctx, p.Pid)
	}
}

// awaitEnd returns when the process has ended, reaped or not, or ctx has.
func awaitEnd(ctx context.Context, pid int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if line, err := CommandLine(ctx, pid); err != nil || line == "" { // no command line: a zombie
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
