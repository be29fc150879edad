package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/sojourn-go/sojourn/internal/loopback"
)

// nodeArg, as the first argument, makes this program a node.
const nodeArg = "-node"

// nodeConfig is what a node is told on its standard input.
type nodeConfig struct {
	Store  string // the backend's name
	Name   string // "node 1"
	Run    string // tells this run of the demo from others
	DSN    string
	Direct string // where to listen and lead; empty: as DSN
	Schema string
	Table  string
	Addr   string // where to listen; empty: a free port
	Home   string // of what is thrown away at the end, to be removed if nobody else can
}

// nodeName is the node's name for the database.
func (c nodeConfig) nodeName() string { return c.Run + " " + c.Name }

const (
	readyMessage = "ready"

	pruneInterval = 2 * time.Second // a minute would do, but nobody wants to watch that
	poolSize      = 8
	shutdownLimit = 30 * time.Second

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

	kind, err := backendOf(conf.Store)
	if err == nil {
		err = serveNode(ctx, kind, conf, log)
	}
	select {
	case dead := <-orphaned:
		if dead && conf.Home != "" {
			err = errors.Join(err, clearUp(kind, conf.Home))
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
func serveNode(ctx context.Context, kind backend, conf nodeConfig, log *zap.Logger) error {
	o, err := kind.node(ctx, conf, log)
	if err != nil {
		return err
	}
	server, err := newServer(conf, o, log)
	if err == nil {
		err = serveHTTP(ctx, conf.Addr, server.handler(), log)
	}

	// The last acts outlive ctx and have their own limit.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit/2)
	defer cancel()
	return errors.Join(err, o.close(last))
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

// clearUp removes the folder of what is thrown away once its server has ended,
// which it does with the demo. Where it does not, the next demo ends it.
func clearUp(kind backend, home string) error {
	const tries = 100
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range tries {
		if kind.ended(home) && os.RemoveAll(home) == nil {
			return nil
		}
		<-tick.C
	}
	return fmt.Errorf("%s is left", home)
}
