package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
)

// serverArg, as the only argument, makes this program the server of a candidate.
const serverArg = "-server"

const (
	poolSize   = 16
	startLimit = 30 * time.Second
	stopLimit  = 10 * time.Second
)

func isServer(args []string) bool { return len(args) == 2 && args[1] == serverArg }

// order is the first line that a server reads. A password in there would show in
// a list of processes if it were an argument.
type order struct {
	Candidate int
	DSN       string
}

// ready is the first line that a server prints. Then it answers each line that it
// reads with its usage, and stops when its input ends, as it does with its parent.
type ready struct{ Addr string }

func serverMain() int {
	signal.Ignore(os.Interrupt) // a terminal sends it to us as well, but our parent decides
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	return 0
}

func serve(in io.Reader, out io.Writer) (err error) {
	lines := bufio.NewScanner(in)
	var o order
	if !lines.Scan() {
		return errors.Join(errors.New("no order"), lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	asked := make(chan struct{})
	go func() { // nothing ends this read but the process or its parent
		defer cancel()
		for lines.Scan() {
			select {
			case asked <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}()

	cfg, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return err
	}
	cfg.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	starting, started := context.WithTimeout(ctx, startLimit)
	defer started()
	b, err := candidates[o.Candidate].open(starting, pool)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() {
		last, cancel := context.WithTimeout(context.Background(), stopLimit)
		defer cancel()
		err = errors.Join(err, b.close(last))
	}()
	return serveHTTP(ctx, handler(b), pool, asked, json.NewEncoder(out))
}

// serveHTTP serves until ctx ends and answers who asks for the usage.
func serveHTTP(ctx context.Context, h http.Handler, pool *pgxpool.Pool, asked <-chan struct{}, out *json.Encoder) error {
	listener, err := loopback.Listen()
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	err = out.Encode(ready{listener.Addr().String()})
	for err == nil && ctx.Err() == nil {
		select {
		case <-asked:
			err = tell(out, pool)
		case err = <-failed:
			return err
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	err = errors.Join(err, srv.Shutdown(last))
	<-failed // that it was closed
	return err
}

func tell(out *json.Encoder, pool *pgxpool.Pool) error {
	u, err := takeUsage(pool)
	if err != nil {
		return err
	}
	return out.Encode(u)
}
