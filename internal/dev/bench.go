package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// bench runs the benchmarks often enough for a comparison and prints medians
// with their spread.
func bench(r *runner, args []string) error {
	pattern := "."
	if len(args) == 1 {
		pattern = args[0]
	}
	if err := r.step("setup", r.setup); err != nil {
		return err
	}
	results, err := os.CreateTemp("", "sojourn-bench-*.txt")
	if err != nil {
		return err
	}
	both := io.MultiWriter(r.out, results)
	err = r.commandIn("", both, "go", "test", "-run=^$", "-bench="+pattern, "-benchmem", "-count=6", "-timeout=2h", "./...")
	if err := errors.Join(err, results.Close()); err != nil {
		return err
	}
	benchstat, err := buildTool(r.ctx, "benchstat")
	if err != nil {
		return err
	}
	if err := r.command(benchstat, results.Name()); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "\nResults for benchstat: %s\n", results.Name())
	return nil
}
