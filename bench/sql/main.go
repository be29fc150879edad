// Command sql measures our stores on SQLite and MySQL side by side with those of
// scs on the same kind of file or server, with the same settings:
//
//	go -C bench run ./sql [-store sqlite|mysql|mysql-plain]
//
// Each store has a database of its own with as many sessions and, for each number
// of goroutines, does one kind of operation for a while, before the other one
// does the same; what is read is compared with what was written. The table shows
// medians over the rounds, and the median of the ratios within a round.
//
// Both run in one process beside the database: compare the ratios, and only on
// a machine that does nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	exitFailed = 1
	exitUsage  = 2

	minDuration = time.Millisecond
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := plan{sessions: 10_000, goroutines: []int{1, 16, 64}, progress: stderr}
	flags := flag.NewFlagSet("sql", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&p.rounds, "rounds", 7, "how often each store has its turn")
	flags.DurationVar(&p.duration, "duration", 500*time.Millisecond, "how long a turn lasts")
	name := flags.String("store", "", "one of "+strings.Join(names(), " and ")+"; all if not given")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	default:
		err = p.validate()
	}
	var chosen []engine
	if err == nil {
		chosen, err = choose(*name)
	}
	if err != nil {
		fmt.Fprintln(stderr, "sql:", err)
		return exitUsage
	}
	for _, e := range chosen {
		res, err := measure(ctx, e, p)
		if err == nil {
			err = res.print(stdout)
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) { // drivers do not tell
				err = fmt.Errorf("%w: %w", cause, err)
			}
			fmt.Fprintf(stderr, "sql: %s: %v\n", e.name, err)
			return exitFailed
		}
	}
	return 0
}

func (p plan) validate() error {
	switch {
	case p.rounds < 1:
		return fmt.Errorf("-rounds is %d; at least 1", p.rounds)
	case p.duration < minDuration:
		return fmt.Errorf("-duration is %v; at least %v", p.duration, minDuration)
	}
	return nil
}
