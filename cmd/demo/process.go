package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
)

// process is a running node: this program once more. It gets its configuration
// as a line on its standard input, so that no password shows in a list of
// processes, and writes its log, which begins with where it listens, to its
// standard output. It stops when it reads stopWord, or that we are gone.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ready chan string   // gets the address that it listens on
	done  chan struct{} // closed once it has ended and its log is read

	trouble atomic.Pointer[string] // what it last had to complain about
}

const stopWord = "stop"

// spawn starts a node. listen is told each line of its log.
func spawn(conf nodeConfig, listen func(entry)) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, nodeArg)
	cmd.Stderr = os.Stderr // a panic
	attach(cmd)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdin: stdin, ready: make(chan string, 1), done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux tells a child of its parent's death when the thread that forked
		// ends, so that thread is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.read(stdout, listen)
		_ = cmd.Wait() // cmd.ProcessState says how it ended
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, err
	}
	if _, err := stdin.Write(append(line, '\n')); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

func (p *process) read(log io.Reader, listen func(entry)) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		e := parseEntry(lines.Bytes())
		switch {
		case e.message == readyMessage:
			p.ready <- e.fields["addr"]
		case e.level == "error":
			p.trouble.Store(&e.text)
		}
		listen(e)
	}
	_, _ = io.Copy(io.Discard, log) // after a line that is too long
}

// await returns the address once the node serves.
func (p *process) await(ctx context.Context) (string, error) {
	select {
	case addr := <-p.ready:
		return addr, nil
	case <-p.done:
		return "", errors.New(p.epitaph())
	case <-ctx.Done():
		p.kill()
		return "", context.Cause(ctx)
	}
}

// epitaph says how the process ended.
func (p *process) epitaph() string {
	how := p.cmd.ProcessState.String()
	if t := p.trouble.Load(); t != nil {
		how += ": " + *t
	}
	return how
}

// stop asks the process to end and waits for it; when ctx ends, it is killed.
// It is an error if it did not end in good order.
func (p *process) stop(ctx context.Context) error {
	_, _ = io.WriteString(p.stdin, stopWord+"\n") // it may have ended already
	_ = p.stdin.Close()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("it did not stop and was killed: %w", context.Cause(ctx))
	}
	if !p.cmd.ProcessState.Success() {
		return errors.New(p.epitaph())
	}
	return nil
}

// kill ends the process at once, without any goodbye.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
	_ = p.stdin.Close()
}
