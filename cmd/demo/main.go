// Demo runs several nodes of one service, each a process of its own, that share
// their sessions. Every node serves a page and the same for curl.
//
//	go run ./cmd/demo                  start, say what to try, run until Ctrl-C
//	go run ./cmd/demo -check           try it all in a few seconds and say what was seen
//	go run ./cmd/demo -store sqlite    the same on another kind of database
//
// Its parts, in the order to read them: server.go and handlers.go are the service.
// node.go runs it as a process, with the store that postgres.go, mysql.go or
// sqlite.go opens. fleet.go and process.go start and watch the nodes. serve.go and
// check.go are what the two commands do with them.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

const usage = `Usage: demo [-store kind] [-check]

Runs three nodes that share their sessions until Ctrl-C.

  -store kind  where they keep them:
               postgres  shows everything; this one if none is given
               mysql     MariaDB or MySQL
               sqlite    a file: processes on one machine
               Without -store, where there is no Postgres and none can be
               installed, it is sqlite.
  -check       log in, read and log out on several nodes, say what was seen, and end

The database is a throwaway server on this machine, made from the programs that
are installed; where there are none, they are installed if that is possible.
Everything listens on 127.0.0.1 and is removed at the end.

Environment:
  SOJOURN_PG_URL     a database to use instead, in a schema that is dropped at the end
  SOJOURN_MYSQL_DSN  the same for -store mysql, in tables that are dropped at the end
                     and in the format of github.com/go-sql-driver/mysql
  PG_BIN, MARIADB_BIN  folders of the programs of Postgres and MariaDB

Exit codes:
  0  all is well
  1  the check saw something wrong, or the demo could not start or stop in good order
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
	kind := flags.String("store", "", "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	}
	_, wrong := backendOf(cmp.Or(*kind, postgres().name))
	if flags.NArg() > 0 {
		wrong = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if wrong != nil {
		fmt.Fprintf(stderr, "demo: %v; see -help\n", wrong)
		return exitUsage
	}

	signal.Ignore(syscall.SIGPIPE) // a reader that goes away (| head) is noticed by output
	ctx, gone := context.WithCancelCause(context.Background())
	defer gone(nil)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends us at once

	do := serve
	if *checks {
		do = check
	}
	if err := do(ctx, *kind, &output{to: stdout, gone: gone}); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return exitFailed
	}
	return exitOK
}

// output ends the demo when it cannot be written to. All nodes write to it at once.
type output struct {
	gone context.CancelCauseFunc

	mu sync.Mutex
	to io.Writer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.to.Write(p)
	if err != nil {
		o.gone(fmt.Errorf("nobody reads what the demo writes: %w", err))
	}
	return n, err
}
