package pgserver

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sojourn-go/sojourn/internal/testrig/await"
	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

func TestKillEndsAStatementThatRuns(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	conn := connect(t, s.DSN("postgres"))
	watcher := connect(t, s.DSN("postgres"))
	pid := conn.PgConn().PID()
	ended := make(chan error, 1)
	go func() {
		// No client wait in it: the backend would not notice the postmaster's end.
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := conn.Exec(ctx, "SELECT count(*) FROM generate_series(1, 1000000000) a, generate_series(1, 1000) b")
		ended <- err
	}()
	await.True(t, "the statement runs", func() bool {
		return ask[int](t, watcher, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series%' AND pid <> pg_backend_pid()") == 1
	})
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Fatal("the statement succeeded")
	}
	if line, err := throwaway.CommandLine(t.Context(), int(pid)); err == nil && strings.Contains(line, "postgres") {
		t.Errorf("the backend still runs: %s", line)
		if backend, err := os.FindProcess(int(pid)); err == nil {
			_ = backend.Kill()
		}
	}
}

func TestSettingsWinOverTheDefaults(t *testing.T) {
	t.Parallel()
	s := run(t, Config{Durable: true, Settings: map[string]string{"timezone": "Asia/Kolkata", "max_connections": "20"}})
	conn := connect(t, s.DSN("postgres"))
	for name, want := range map[string]string{
		"timezone": "Asia/Kolkata", "max_connections": "20", "fsync": "on", "full_page_writes": "on", "listen_addresses": "127.0.0.1",
	} {
		if got := ask[string](t, conn, "SHOW "+name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	exec1(t, conn, "DO $$ BEGIN RAISE LOG 'marker 4711'; END $$")
	if n := strings.Count(s.Log(), "LOG:  marker 4711"); n != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", n, s.Log())
	}
}

func TestSuperuserNeedsItsPasswordAndOthersNone(t *testing.T) {
	t.Parallel()
	s := run(t, Config{})
	exec1(t, connect(t, s.DSN("postgres")), "CREATE ROLE app LOGIN")
	u, err := url.Parse(s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("postgres", "wrong")
	var pgErr *pgconn.PgError
	if err := connects(t.Context(), u.String()); !errors.As(err, &pgErr) || pgErr.Code != "28P01" {
		t.Errorf("wrong password: %v, want 28P01", err)
	}
	u.User = url.User("app")
	if err := connects(t.Context(), u.String()); err != nil {
		t.Errorf("another role: %v", err)
	}
}
