package mysqlstore

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// eager prunes as often as it can.
func eager() time.Duration { return time.Millisecond }

// child is a node of its own, which prunes and is called "child", until it is
// killed or the test ends.
func child(dsn string) int {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test's process
		os.Exit(3)
	}()
	db, err := sql.Open("mysql", dsn)
	if err == nil {
		_, err = New(context.Background(), db, Options{NextPrune: eager, NodeName: "child"})
	}
	if err == nil {
		_, err = fmt.Println("ready")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	select {}
}

// startChild returns once the node has begun, and the way to kill it (-9).
func startChild(t testing.TB, dsn string) (kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dsn)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
	t.Cleanup(kill)
	if lines := bufio.NewScanner(out); !lines.Scan() {
		t.Fatal("the other node does not begin")
	}
	return kill
}
