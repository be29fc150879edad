package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/sojourn-go/sojourn/internal/loopback"
	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/pgstore"
)

// nodeArg, as the first argument, makes this program a node.
const nodeArg = "-node"

// nodeConfig is what a node is told on its standard input.
type nodeConfig struct {
	Name   string // "node 1"
	Run    string
	DSN    string
	Direct string // where to listen and lead; empty: as DSN
	Schema string
	Addr   string // where to listen; empty: a free port
	Home   string // of the throwaway server, to be removed if nobody else can
}

const (
	readyMessage = "ready"

	pruneInterval = 2 * time.Second // a minute would do, but nobody wants to watch that
	poolSize      = 8
	shutdownLimit = 10 * time.Second

	// The signal of our parent's death may come before our input ends.
	signalLead = 200 * time.Millisecond
)

// runNode is the whole life of a node.
func runNode(in io.Reader, out io.Writer) int {
	// Whoever reads the log may be gone while there is still work to do.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := newLog(out)

	lines := bufio.NewReader(in)
	var conf nodeConfig
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &conf)
	}
	if err != nil {
		log.Error("read the configuration", zap.Error(err))
		return exitFailed
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	orphaned := make(chan bool, 1)
	go func() { // nothing ends this read but the process or its parent
		line, _ := lines.ReadString('\n')
		orphaned <- line != stopWord+"\n"
		end()
	}()

	err = serveNode(ctx, conf, log)
	select {
	case dead := <-orphaned:
		if dead && conf.Home != "" {
			err = errors.Join(err, clearUp(conf.Home))
		}
	case <-time.After(signalLead): // stopped by a signal, or failed
	}
	if err != nil {
		log.Error("failed", zap.Error(err))
		return exitFailed
	}
	return exitOK
}

// newLog writes lines of JSON. During an outage every request fails in the
// same way: three times a second are enough to know.
func newLog(out io.Writer) *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey = "" // the reader knows
	enc.EncodeTime = zapcore.RFC3339TimeEncoder
	core := zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.Lock(zapcore.AddSync(out)), zap.InfoLevel)
	// Where it cannot be written, nobody is left who could be told.
	return zap.New(zapcore.NewSamplerWithOptions(core, time.Second, 3, 0), zap.ErrorOutput(zapcore.AddSync(io.Discard)))
}

// serveNode serves until ctx ends.
func serveNode(ctx context.Context, conf nodeConfig, log *zap.Logger) error {
	queries := &queryCounter{}
	pool, err := openPool(ctx, conf, queries)
	if err != nil {
		return err
	}
	store, err := pgstore.New(ctx, pool, pgstore.Options{
		Schema:        conf.Schema,
		DirectDSN:     conf.Direct,
		PruneInterval: pruneInterval,
		OnLease:       tellLease(ctx, log),
		NodeName:      conf.Run + " " + conf.Name,
		Logger:        log,
	})
	if err != nil {
		pool.Close()
		return err
	}
	server, err := newServer(conf, store, queries, log)
	if err == nil {
		err = serveHTTP(ctx, conf.Addr, server.handler(), log)
	}

	// The last acts outlive ctx and have their own limit.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit/2)
	defer cancel()
	err = errors.Join(err, store.Close(last))
	return errors.Join(err, closePool(last, pool))
}

// tellLease logs when the node begins to answer from its memory and when it
// stops, but not that it stops with ctx.
func tellLease(ctx context.Context, log *zap.Logger) func(invalidation.LeaseChange) {
	return func(c invalidation.LeaseChange) {
		switch {
		case c.Held:
			log.Info("answers from memory")
		case ctx.Err() == nil:
			log.Info("asks the database for every read", zap.Error(c.Err))
		}
	}
}

func openPool(ctx context.Context, conf nodeConfig, queries *queryCounter) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(conf.DSN)
	if err != nil {
		return nil, err
	}
	config.MaxConns = poolSize
	config.ConnConfig.RuntimeParams["application_name"] = "sojourn " + conf.Run + " " + conf.Name
	queries.watch(config)
	return pgxpool.NewWithConfig(ctx, config)
}

// closePool waits for connections that are in use, but not for ever.
func closePool(ctx context.Context, pool *pgxpool.Pool) error {
	closed := make(chan struct{})
	go func() { defer close(closed); pool.Close() }()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the pool: connections are still in use: %w", context.Cause(ctx))
	}
}

func listen(addr string) (net.Listener, error) {
	if addr == "" {
		return loopback.Listen()
	}
	return net.Listen("tcp", addr)
}

// serveHTTP serves until ctx ends, and then finishes the requests under way.
func serveHTTP(ctx context.Context, addr string, h http.Handler, log *zap.Logger) error {
	l, err := listen(addr)
	if err != nil {
		return err
	}
	log.Info(readyMessage, zap.String("addr", l.Addr().String()), zap.Int("pid", os.Getpid()))
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit/2)
		defer cancel()
		if err := server.Shutdown(last); err != nil {
			return errors.Join(fmt.Errorf("finish the requests under way: %w", err), server.Close())
		}
		return nil
	})
	return g.Wait()
}

// clearUp removes the throwaway server's folder once the server has ended,
// which it does with the demo. Where it does not, the next demo ends it.
func clearUp(home string) error {
	const tries = 100
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range tries {
		_, err := os.Stat(filepath.Join(home, "data", "postmaster.pid"))
		if errors.Is(err, fs.ErrNotExist) {
			if err = os.RemoveAll(home); err == nil {
				return nil
			}
		}
		<-tick.C
	}
	return fmt.Errorf("%s is left", home)
}
