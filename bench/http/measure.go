package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/pgserver"
)

// plan says how much is measured.
type plan struct {
	rounds   int
	duration time.Duration // of a turn
	clients  int
	sessions int  // at least as many as clients
	durable  bool // commits are flushed to disk
	progress io.Writer
}

// workload is a kind of request.
type workload struct {
	name string
	send func(*client, *visitor) error
}

var workloads = []workload{
	{"read one value and the user", (*client).sendRead},
	{"write one value", (*client).sendWrite},
	{"log in", (*client).sendLogin},
	{"90 % read, 8 % write, 2 % log in", (*client).sendAny},
}

type results struct {
	plan
	postgres string
	samples  [][][]sample // by workload, candidate and round
}

// measure starts everything, measures and ends everything.
func measure(ctx context.Context, p plan) (res *results, err error) {
	settings := map[string]string{"shared_buffers": "256MB", "max_wal_size": "4GB", "jit": "off"}
	server, err := pgserver.Start(ctx, pgserver.Config{Durable: p.durable, Settings: settings})
	if errors.Is(err, pgserver.ErrNotInstalled) {
		return nil, fmt.Errorf("%w; run: %s", err, pgserver.InstallHint())
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()

	var crowds []*crowd
	defer func() {
		for _, c := range crowds {
			err = errors.Join(err, c.close())
		}
	}()
	for i := range candidates {
		dsn, err := database(ctx, server, i)
		if err != nil {
			return nil, err
		}
		c, err := gather(ctx, i, dsn, p)
		if err != nil {
			return nil, err
		}
		crowds = append(crowds, c)
	}

	res = &results{plan: p, postgres: server.Installation().Release}
	for _, w := range workloads {
		fmt.Fprintf(p.progress, "%s: %d rounds of %d turns of %v, after one that does not count\n", w.name, p.rounds, len(crowds), p.duration)
		samples, err := compare(ctx, crowds, w, p)
		if err != nil {
			return nil, err
		}
		res.samples = append(res.samples, samples)
	}
	return res, nil
}

// database makes a candidate's database.
func database(ctx context.Context, server *pgserver.Server, number int) (dsn string, err error) {
	conn, err := pgx.Connect(ctx, server.DSN("postgres"))
	if err != nil {
		return "", err
	}
	name := fmt.Sprint("candidate_", number)
	_, err = conn.Exec(ctx, "CREATE DATABASE "+name)
	return server.DSN(name), errors.Join(err, conn.Close(ctx))
}

// compare lets the candidates take turns. Each round begins with another one.
func compare(ctx context.Context, crowds []*crowd, w workload, p plan) ([][]sample, error) {
	for _, c := range crowds {
		if err := c.check(ctx); err != nil {
			return nil, err
		}
	}
	samples := make([][]sample, len(crowds))
	for round := range p.rounds + 1 {
		for i := range crowds {
			i = (i + round) % len(crowds)
			s, err := crowds[i].turn(ctx, w, p.duration)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				samples[i] = append(samples[i], s)
			}
		}
	}
	for _, c := range crowds { // what was written is there
		if err := c.check(ctx); err != nil {
			return nil, err
		}
	}
	return samples, nil
}
