package throwaway

import (
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
