package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
)

// nodeArg, as the first argument, makes this program a node.
const nodeArg = "-node"

// nodeConfig is what a node is told on its standard input.
type nodeConfig struct {
	Store  string // the backend's name
	Name   string // "node 1"
	Run    string // tells this run of the demo from others
	DSN    string
	Schema string // of Postgres
	Table  string // of MySQL
	Addr   string // where to listen; empty: a free port
	Peers  []peer // all nodes; more of them may follow
}

// peer is a node as the others show it.
type peer struct{ Name, URL string }

// nodeName is the node's name for the database.
func (c nodeConfig) nodeName() string { return c.Run + " " + c.Name }

const (
	readyPrefix = "ready " // begins the line that tells where the node listens

	pruneInterval = 2 * time.Second // a minute would do, but nobody wants to watch that
	shutdownLimit = time.Minute
)

// runNode is the whole life of a node. It ends when its input does, which is so
// when our parent wants it and when it is gone, or by SIGTERM.
func runNode(in io.Reader, out io.Writer) int {
	// Ctrl-C is our parent's business, and whoever reads the log may be gone while
	// there is still work to do.
	signal.Ignore(os.Interrupt, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := newLog(out)
	orders := json.NewDecoder(in)
	var conf nodeConfig
	if err := orders.Decode(&conf); err != nil {
		log.Error("failed", zap.NamedError("configuration", err))
		return exitFailed
	}
	var peers atomic.Pointer[[]peer]
	peers.Store(&conf.Peers)
	go func() { // nothing ends this read but the process or its parent
		defer stop()
		for {
			var all []peer
			if orders.Decode(&all) != nil {
				return
			}
			peers.Store(&all)
		}
	}()
	if err := serveNode(ctx, conf, &peers, out, log); err != nil {
		log.Error("failed", zap.Error(err))
		return exitFailed
	}
	return exitOK
}

// newLog writes lines for people. During an outage every request fails in the
// same way: three times a second are enough to know.
func newLog(out io.Writer) *zap.Logger {
	enc := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		LevelKey: "level", EncodeLevel: zapcore.LowercaseLevelEncoder, MessageKey: "msg", ConsoleSeparator: "  ",
		EncodeTime: zapcore.RFC3339TimeEncoder, EncodeDuration: zapcore.StringDurationEncoder,
	})
	core := zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(out)), zap.InfoLevel)
	// Where it cannot be written, nobody is left who could be told.
	return zap.New(zapcore.NewSamplerWithOptions(core, time.Second, 3, 0), zap.ErrorOutput(zapcore.AddSync(io.Discard)))
}

// serveNode serves until ctx ends.
func serveNode(ctx context.Context, conf nodeConfig, peers *atomic.Pointer[[]peer], out io.Writer, log *zap.Logger) error {
	kind, err := backendOf(conf.Store)
	if err != nil {
		return err
	}
	o, err := kind.openStore(ctx, conf, log)
	if err != nil {
		return err
	}
	s, err := newServer(conf, o, peers, log)
	if err == nil {
		err = serveHTTP(ctx, conf.Addr, s.handler(), out)
	}

	// The last acts outlive ctx and have their own limit.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer cancel()
	return errors.Join(err, o.close(last))
}

// serveHTTP serves until ctx ends, and then finishes the requests under way.
func serveHTTP(ctx context.Context, addr string, h http.Handler, out io.Writer) error {
	listen := loopback.Listen
	if addr != "" {
		listen = func() (net.Listener, error) { return net.Listen("tcp", addr) }
	}
	l, err := listen()
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	fmt.Fprintf(out, "%s%s\n", readyPrefix, l.Addr())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer cancel()
	return errors.Join(server.Shutdown(last), server.Close())
}
