package pgserver

import (
	"context"
	"os"
	"path/filepath"

	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

const (
	sigFast      = throwaway.Interrupt // Postgres: fast shutdown
	sigImmediate = throwaway.Quit      // Postgres: immediate shutdown
	sigPause     = throwaway.Pause
	sigResume    = throwaway.Resume
)

const homePrefix = "sojourn-pg-"

func dataDir(home string) string { return filepath.Join(home, "data") }

// sweep ends the servers and removes the folders of processes that died
// without cleaning up.
func sweep(ctx context.Context) {
	throwaway.Sweep(homePrefix, func(home string) {
		data := dataDir(home)
		if master := throwaway.Orphan(ctx, filepath.Join(data, "postmaster.pid"), data); master != nil {
			killTree(ctx, master)
		}
	})
}

// killTree ends a postmaster and its children without a chance to say goodbye,
// and waits until they are gone: until then they hold the shared memory, and the
// folder cannot be used again. The postmaster is stopped first, so that it
// neither forks nor cleans up in between.
func killTree(ctx context.Context, master *os.Process) {
	_ = master.Signal(sigPause)
	pids, _ := throwaway.Children(ctx, master.Pid) // without the list the master's death still ends them, only later
	for _, pid := range pids {
		if child, err := os.FindProcess(pid); err == nil {
			_ = child.Kill()
			_ = child.Release()
		}
	}
	_ = master.Kill()
	for _, pid := range append(pids, master.Pid) {
		throwaway.AwaitEnd(ctx, pid)
	}
}
