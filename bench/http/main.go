// Command http measures what sessions cost an HTTP server, side by side with
// other session libraries and with the same server without sessions:
//
//	go -C bench run ./http
//
// It starts a throwaway Postgres and each candidate's server in a process of its
// own, and is their only client, over loopback: every connection sends the next
// request when it has read the last answer, and every answer is checked. The
// candidates take turns in short slices; the tables show medians over the
// rounds, and medians of the ratios within a round.
//
// Client, servers and Postgres share the machine: compare the ratios, and only
// on a machine that does nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	exitFailed = 1
	exitUsage  = 2

	maxClients  = 200
	minDuration = time.Millisecond
)

func main() {
	if isServer(os.Args) {
		os.Exit(serverMain())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := plan{sessions: 1000, durable: true, progress: stderr}
	flags := flag.NewFlagSet("http", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&p.rounds, "rounds", 7, "how often each candidate has its turn")
	flags.DurationVar(&p.duration, "duration", 2*time.Second, "how long a turn lasts")
	flags.IntVar(&p.clients, "clients", 16, "connections that send requests")
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
	if err != nil {
		fmt.Fprintln(stderr, "http:", err)
		return exitUsage
	}
	results, err := measure(ctx, p)
	if err == nil {
		err = results.print(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "http:", err)
		return exitFailed
	}
	return 0
}

func (p plan) validate() error {
	switch {
	case p.rounds < 1:
		return fmt.Errorf("-rounds is %d; at least 1", p.rounds)
	case p.duration < minDuration:
		return fmt.Errorf("-duration is %v; at least %v", p.duration, minDuration)
	case p.clients < 1 || p.clients > maxClients:
		return fmt.Errorf("-clients is %d; from 1 to %d", p.clients, maxClients)
	}
	return nil
}
