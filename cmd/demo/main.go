// Demo runs several nodes that share their sessions, each a process of its own
// with a live page and an HTTP interface for curl.
//
//	go run ./cmd/demo                  start, say what to try, run until Ctrl-C
//	go run ./cmd/demo -check           play through it all and say what was seen
//	go run ./cmd/demo -store sqlite    the same on another kind of database
//
// Postgres is the database that SOJOURN_PG_URL leads to, in a schema of the
// demo's own that is dropped at the end, or else a throwaway server on this
// machine; so it is with MySQL, tables and SOJOURN_MYSQL_DSN. All ports are on
// 127.0.0.1.
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
)

const usage = `Usage: demo [-store kind] [-check [-json]] [-nodes n]

Runs nodes that share their sessions until Ctrl-C.

  -store kind  where they keep them:
               postgres  shows everything; this one if none is given
               mysql     MariaDB or MySQL. Reads are not answered from memory, and
                         there are no partitions
               sqlite    a file: processes on one machine. Reads are not answered
                         from memory, there is no leader and no partition
               Without -store, where there is no Postgres and none can be
               installed, it is sqlite.
  -check       play through it all without anybody's help, say what was seen and
               how long it took, and end
  -json        with -check: one JSON object per line and step, with the fields
               name, ok, milliseconds, detail and, where a step could not be
               tried, skipped
  -nodes n     how many nodes, from 2 to 9; 3 if not given

Environment:
  SOJOURN_PG_URL  a Postgres database to use. Without it a throwaway server is
                  started from the programs that are installed (PG_BIN names
                  their folder); where there are none, they are installed if that
                  is possible.
  SOJOURN_MYSQL_DSN  the same for -store mysql, in the format of
                  github.com/go-sql-driver/mysql; MARIADB_BIN names the folder of
                  the programs of MariaDB.

Exit codes:
  0  all is well
  1  a step of the check failed, or the demo could not start or stop in good order
  2  wrong arguments
`

const (
	exitOK = iota
	exitFailed
	exitUsage
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == nodeArg {
		return runNode(stdin, stdout)
	}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage) }
	checks := flags.Bool("check", false, "")
	asJSON := flags.Bool("json", false, "")
	nodes := flags.Int("nodes", 3, "")
	name := flags.String("store", "", "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	}
	kind, nameErr := choose(*name)
	for _, wrong := range []struct {
		is   bool
		text string
	}{
		{flags.NArg() > 0, fmt.Sprintf("unexpected argument %q", flags.Arg(0))},
		{*nodes < 2 || *nodes > 9, fmt.Sprintf("-nodes is %d; it must be from 2 to 9", *nodes)},
		{*asJSON && !*checks, "-json needs -check"},
		{nameErr != nil, fmt.Sprint(nameErr)},
	} {
		if wrong.is {
			fmt.Fprintf(stderr, "demo: %s; see -help\n", wrong.text)
			return exitUsage
		}
	}

	// A reader that goes away (| head) is a reason to stop and clean up, too. The
	// signal would tell of broken network connections as well, so it is dropped.
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGPIPE)
	defer signal.Stop(dropped)
	ctx, gone := context.WithCancelCause(context.Background())
	defer gone(nil)
	stdout = &output{stdout, gone}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends us at once

	if *checks {
		if !runCheck(ctx, kind, *nodes, newReport(stdout, *asJSON), stderr) {
			return exitFailed
		}
		return exitOK
	}
	if err := serve(ctx, kind, *nodes, stdout); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return exitFailed
	}
	return exitOK
}

// output ends the demo when it cannot be written to.
type output struct {
	to   io.Writer
	gone context.CancelCauseFunc
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if err != nil {
		o.gone(fmt.Errorf("nobody reads what the demo writes: %w", err))
	}
	return n, err
}
