package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/session"
)

// backend is a kind of database to keep sessions in.
type backend struct {
	name   string   // for -store
	find   string   // the step of the check that opens it
	memory bool     // nodes answer reads from their memory
	leads  bool     // one node at a time does the upkeep, until it ends
	lacks  []string // what the others show and this one does not

	// open finds a database or starts one. What it installs is said on out.
	open func(ctx context.Context, out io.Writer) (database, error)
	// node opens a node's store.
	node func(context.Context, nodeConfig, *zap.Logger) (*opened, error)
	// ended reports whether the server that lived in the folder home, if any,
	// has ended.
	ended func(home string) bool
}

// newRun is a name for this run of the demo.
func newRun() string { return "demo_" + strings.ToLower(rand.Text()[:8]) }

// serverGone is what close says of a server that was ours.
const serverGone = "server stopped, folder removed"

func backends() []backend { return []backend{postgres(), mysql(), sqlite()} }

func backendOf(name string) (backend, error) {
	var names []string
	for _, b := range backends() {
		if b.name == name {
			return b, nil
		}
		names = append(names, b.name)
	}
	return backend{}, fmt.Errorf("-store is %q; it must be one of %s", name, strings.Join(names, ", "))
}

// noServer says that there is no server on this machine and none could be
// installed.
type noServer struct{ error }

func (e noServer) Unwrap() error { return e.error }

// choice is the kind of database that the demo shall run on.
type choice struct {
	backend
	ifPossible bool // nobody asked for it: SQLite does, where it is not there
}

// choose returns the kind of that name, or Postgres.
func choose(name string) (choice, error) {
	if name == "" {
		return choice{postgres(), true}, nil
	}
	kind, err := backendOf(name)
	return choice{backend: kind}, err
}

// other is what to run on instead after err. It says why, and what that does not
// show.
func (c choice) other(err error) (instead choice, why string, ok bool) {
	if _, none := errors.AsType[noServer](err); !c.ifPossible || !none {
		return choice{}, "", false
	}
	instead = choice{backend: sqlite()}
	return instead, fmt.Sprintf("%v. SQLite does instead; what it does not show: %s", err, strings.Join(instead.lacks, "; ")), true
}

// database is what the nodes share, as the demo itself sees it.
type database interface {
	about() string // what it is, for people
	// node is what each node is told, but its name.
	node() nodeConfig
	// migrate makes the tables and says where.
	migrate(context.Context) (string, error)
	// open opens a store of the demo's own beside those of the nodes.
	open(context.Context) (*opened, error)
	// steps are those of the check that only this kind of database has.
	steps(*check) []step
	// told runs do and remarks how many messages about sessions the nodes were
	// sent meanwhile, if they are sent any. More than most are an error.
	told(ctx context.Context, most int, do func() error) (remark string, err error)
	// left are the connections that nodes have; errors.ErrUnsupported if that
	// cannot be known.
	left(context.Context) ([]string, error)
	log() string // of the server; empty if that is not ours
	// close leaves nothing behind and says how. It also works when ctx has ended.
	close(ctx context.Context) (string, error)
}

// store is what the stores for all kinds of databases can do.
type store interface {
	session.Store
	session.Clock
	session.UserIndex
	session.Explainer
	session.Statser
}

// memory is what a store can do besides that answers reads from its memory.
type memory interface {
	session.FreshGetter
	session.LateToucher
	session.NodeWaiter
}

// opened is a store at work and what it rests on.
type opened struct {
	store   store
	queries func() queryCounts                    // nil: they are not counted
	leader  func(context.Context) (string, error) // nil: nobody leads
	close   func(context.Context) error
}

// queryCounts is what a node has sent: on the application's pool, which reads
// and writes of sessions use, and on connections that the store has made for
// itself from the pool's settings, for heartbeats, logouts and upkeep.
type queryCounts struct {
	Application uint64 `json:"application"`
	Own         uint64 `json:"own"`
}
