package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestADSNIsLedToAnotherAddress(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://bob:s%27ecr%5Ct@db.example:6432/things?sslmode=disable&application_name=x",
		"postgresql://bob:s%27ecr%5Ct@one.example:6432,two.example:6433/things?sslmode=disable&application_name=x",
		"postgres:///things?host=/var/run/postgresql&port=6432&user=bob&password=s%27ecr%5Ct&sslmode=disable&application_name=x",
		`host=db.example port=6432 user=bob password='s\'ecr\\t' dbname=things sslmode=disable application_name=x`,
	} {
		led, err := via(dsn, "127.0.0.1:23456")
		if err != nil {
			t.Errorf("%s: %v", dsn, err)
			continue
		}
		got, err := pgx.ParseConfig(led)
		if err != nil {
			t.Errorf("%s: %v", dsn, err)
			continue
		}
		if got.Host != "127.0.0.1" || got.Port != 23456 || len(got.Fallbacks) > 0 || got.User != "bob" ||
			got.Password != `s'ecr\t` || got.Database != "things" || got.RuntimeParams["application_name"] != "x" {
			t.Errorf("%s: %s:%d, %d others, %q, %q, %q, %v", dsn, got.Host, got.Port, len(got.Fallbacks), got.User, got.Password, got.Database, got.RuntimeParams)
		}
	}
	if _, err := via("postgres://bob:verysecret@db.example:port/things", "127.0.0.1:23456"); err == nil || strings.Contains(err.Error(), "verysecret") {
		t.Errorf("a DSN that is not valid: %v", err)
	}
}

func TestOutputThatNobodyReadsEndsTheDemo(t *testing.T) {
	t.Parallel()
	ctx, gone := context.WithCancelCause(t.Context())
	read, write := io.Pipe()
	o := &output{write, gone}
	go func() {
		_, _ = io.ReadFull(read, make([]byte, 4))
		read.Close()
	}()
	if _, err := o.Write([]byte("line")); err != nil || ctx.Err() != nil {
		t.Error(err, ctx.Err())
	}
	if _, err := o.Write([]byte("line")); err == nil || !errors.Is(context.Cause(ctx), io.ErrClosedPipe) {
		t.Error(err, context.Cause(ctx))
	}
}

func TestDelaysAreSummedUp(t *testing.T) {
	t.Parallel()
	var d delays
	for i := range 200 {
		d = append(d, time.Duration(200-i)*time.Millisecond)
	}
	if got, want := d.String(), "p50 100ms, p99 198ms, max 200ms"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
