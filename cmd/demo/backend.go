package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/session"
)

// backend is a kind of database to keep sessions in.
type backend struct {
	name  string   // for -store
	lacks []string // what the others show and this one does not

	// open finds a database or starts a server, and makes the tables. What it
	// installs is said on out.
	open func(ctx context.Context, out io.Writer) (*database, error)
	// openStore opens the store of one node.
	openStore func(context.Context, nodeConfig, *zap.Logger) (*opened, error)
}

// database is what the nodes share, as the demo itself sees it.
type database struct {
	about string     // what it is and where, for people
	node  nodeConfig // what each node is told of it
	// close removes what the demo has made.
	close func(context.Context) error
}

// opened is the store of a node.
type opened struct {
	store interface {
		session.Store
		session.UserIndex
		session.Statser
	}
	// leader asks who leads; it is nil where nobody can be asked.
	leader func(context.Context) (string, error)
	close  func(context.Context) error
}

func backendOf(name string) (backend, error) {
	var names []string
	for _, b := range []backend{postgres(), mysql(), sqlite()} {
		if b.name == name {
			return b, nil
		}
		names = append(names, b.name)
	}
	return backend{}, fmt.Errorf("-store is %q; it must be one of %s", name, strings.Join(names, ", "))
}

// openDatabase opens a database of a kind. An empty kind is Postgres, or SQLite
// where there is no server of Postgres.
func openDatabase(ctx context.Context, kind string, out io.Writer) (backend, *database, error) {
	if kind == "" {
		return openEither(ctx, postgres(), sqlite(), out)
	}
	b, err := backendOf(kind)
	if err != nil {
		return b, nil, err
	}
	db, err := b.open(ctx, out)
	return b, db, err
}

// openEither opens a database of the second kind where there is no server of the first.
func openEither(ctx context.Context, b, otherwise backend, out io.Writer) (backend, *database, error) {
	db, err := b.open(ctx, out)
	if errors.Is(err, errNoServer) {
		fmt.Fprintf(out, "%v.\nThe store is %s instead.\n", err, otherwise.name)
		b = otherwise
		db, err = b.open(ctx, out)
	}
	return b, db, err
}

// errNoServer says that there is no server on this machine and none could be
// installed.
var errNoServer = errors.New("no server of the database is here")

// answerLimit is for a database to answer something simple.
const answerLimit = 30 * time.Second

// newRun makes a name that tells what belongs to this run of the demo.
func newRun() string { return "demo_" + strings.ToLower(rand.Text()[:8]) }
