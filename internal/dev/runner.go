package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// runner runs steps and keeps how long they took.
type runner struct {
	ctx   context.Context
	out   io.Writer
	env   []string // on top of ours, for commands
	steps []step
	tests []packageTime // of goTest
	notes []string      // what is to be read at the end
}

type step struct {
	name string
	took time.Duration
	err  error
}

// step runs one step with a headline.
func (r *runner) step(name string, do func() error) error {
	fmt.Fprintf(r.out, "\n== %s\n", name)
	start := time.Now()
	err := do()
	took := time.Since(start)
	r.steps = append(r.steps, step{name, took, err})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(r.out, "== %s: ok (%s)\n", name, round(took))
	return nil
}

// testLimit is for the tests of one package. It is there for tests that hang: a
// machine ten times slower does not reach it.
const testLimit = "-timeout=80m"

// goTest is a step that runs go test, with a time for each package.
func (r *runner) goTest(name string, args ...string) error {
	return r.step(name, func() error {
		watch := &stopwatch{out: r.out}
		err := r.commandIn("", watch, "go", args...)
		r.tests = append(r.tests, watch.found...)
		return err
	})
}

// command runs a program and passes on what it prints.
func (r *runner) command(name string, args ...string) error {
	return r.commandIn("", r.out, name, args...)
}

// commandIn runs a program in a folder.
func (r *runner) commandIn(dir string, out io.Writer, name string, args ...string) error {
	cmd := exec.CommandContext(r.ctx, name, args...)
	cmd.Dir = dir
	// Interrupted, a test program still stops its servers.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), r.env...)
	cmd.Stdout, cmd.Stderr = out, out
	fmt.Fprintln(r.out, "+", name, strings.Join(args, " "))
	return cmd.Run()
}

// note prints a line now and once more at the end.
func (r *runner) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(r.out, text)
	r.notes = append(r.notes, text)
}

// finish prints how long each package and each step took, with the notes, and
// returns err.
func (r *runner) finish(err error) error {
	fmt.Fprintln(r.out)
	if slowest := slowestFirst(r.tests); len(slowest) > 0 {
		for _, p := range slowest {
			fmt.Fprintf(r.out, "%-6s %8s  %s\n", "tests", round(p.took), p.name)
		}
		fmt.Fprintln(r.out)
	}
	for _, s := range r.steps {
		result := "ok"
		if s.err != nil {
			result = "FAILED"
		}
		fmt.Fprintf(r.out, "%-6s %8s  %s\n", result, round(s.took), s.name)
	}
	for _, text := range r.notes {
		fmt.Fprintf(r.out, "%-6s %8s  %s\n", "NOTE", "", text)
	}
	return err
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
