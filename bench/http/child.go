package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// child is the server of a candidate, as its parent sees it. Its methods are for
// one goroutine.
type child struct {
	name  string
	addr  string
	cmd   *exec.Cmd
	tells *json.Decoder
	asks  *json.Encoder
	errs  bytes.Buffer // to be read once it has ended
	end   func()       // asks it to end, and has it killed if it does not
	kill  *time.Timer  // set by end
}

// spawn starts the server of candidates[number] and returns when it serves.
func spawn(ctx context.Context, number int, dsn string) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{name: candidates[number].name, cmd: exec.Command(exe, serverArg)}
	c.cmd.Stderr = &c.errs
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, stdin.Close())
	}
	c.asks, c.tells = json.NewEncoder(stdin), json.NewDecoder(stdout)
	c.end = sync.OnceFunc(func() {
		_ = stdin.Close() // it may have ended already
		c.kill = time.AfterFunc(2*stopLimit, func() { _ = c.cmd.Process.Kill() })
	})
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	var r ready
	if err := c.ask(ctx, startLimit+stopLimit, order{number, dsn}, &r); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	c.addr = r.Addr
	return c, nil
}

// usage asks the server what it has used so far.
func (c *child) usage(ctx context.Context) (u usage, err error) {
	err = c.ask(ctx, stopLimit, struct{}{}, &u)
	return u, err
}

// ask writes one line and reads one. It ends the server if ctx ends or the answer
// takes longer than limit.
func (c *child) ask(ctx context.Context, limit time.Duration, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(ctx, c.end)()
	err := c.asks.Encode(question)
	if err == nil {
		err = c.tells.Decode(answer)
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: its server does not answer: %w", c.name, errors.Join(context.Cause(ctx), err))
}

// stop ends the server and waits for it. It is an error if it did not end in
// good order.
func (c *child) stop() error {
	c.end()
	err := c.cmd.Wait()
	c.kill.Stop()
	if err != nil {
		return fmt.Errorf("%s: its server: %w: %s", c.name, err, strings.TrimSpace(c.errs.String()))
	}
	return nil
}
