package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// engine is a kind of database.
type engine struct {
	name  string
	start func(context.Context) (*site, error)
}

var engines = []engine{
	{"sqlite", startSQLite},
	{"mysql", startMySQL},
	{"mysql-plain", startPlainMySQL},
}

func names() (all []string) {
	for _, e := range engines {
		all = append(all, e.name)
	}
	return all
}

// choose returns the engine of that name, or all.
func choose(name string) ([]engine, error) {
	if name == "" {
		return engines, nil
	}
	for _, e := range engines {
		if e.name == name {
			return []engine{e}, nil
		}
	}
	return nil, fmt.Errorf("-store is %q; it must be %s", name, strings.Join(names(), " or "))
}

// site is where the stores of an engine keep their sessions.
type site struct {
	about     string
	own, peer candidate
	close     func() error
}

// candidate is a way to keep sessions there.
type candidate struct {
	name string
	open func(context.Context) (backend, error)
}

// backend is a candidate at work. Its methods may be called concurrently.
type backend interface {
	// create adds a session that holds data.
	create(ctx context.Context, data []byte) (visitor, error)
	close(context.Context) error
}

// visitor is a session, for one goroutine at a time.
type visitor interface {
	// get returns what the session holds; errGone if there is none.
	get(context.Context) ([]byte, error)
	save(ctx context.Context, data []byte) error
	// touch moves the expiry forward.
	touch(context.Context) error
	destroy(context.Context) error
}

var errGone = errors.New("there is no such session")

// The lifetimes of all sessions: none expires meanwhile.
const (
	absoluteTimeout = 12 * time.Hour
	idleTimeout     = 30 * time.Minute
)
