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
	"strings"
	"sync/atomic"
)

// process is a running node: this program once more. It is told what to do on its
// standard input, so that no password shows in a list of processes, and it stops
// when that ends, as it does with us. It writes its log to its standard output.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ready chan string   // gets the address that it listens on
	done  chan struct{} // closed once it has ended and its log is read
	last  atomic.Value  // the last line of its log
}

// spawn starts a node. listen is told each line of its log.
func spawn(conf nodeConfig, listen func(line string)) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, nodeArg)
	cmd.Stderr = os.Stderr // a panic
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdin: stdin, ready: make(chan string, 1), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.read(stdout, listen)
		_ = cmd.Wait() // cmd.ProcessState says how it ended
	}()
	if err := p.tell(conf); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

func (p *process) read(log io.Reader, listen func(string)) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if addr, ok := strings.CutPrefix(line, readyPrefix); ok {
			p.ready <- addr
			line = fmt.Sprintf("is there, process %d", p.pid())
		}
		p.last.Store(line)
		listen(line)
	}
	_, _ = io.Copy(io.Discard, log) // after a line that is too long
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// tell sends the node a line of JSON.
func (p *process) tell(what any) error { return json.NewEncoder(p.stdin).Encode(what) }

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

// epitaph says how the process ended, and its last words if it did so by itself.
func (p *process) epitaph() string {
	how := p.cmd.ProcessState.String()
	if last, ok := p.last.Load().(string); ok && p.cmd.ProcessState.Exited() {
		how += ": " + last
	}
	return how
}

// stop asks the process to end and waits for it; when ctx ends, it is killed.
// It is an error if it did not end in good order.
func (p *process) stop(ctx context.Context) error {
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
