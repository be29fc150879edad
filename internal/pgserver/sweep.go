package pgserver

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	homePrefix = "sojourn-pg-"
	ownerFile  = "owner.lock"
)

// newHome creates a server's folder. The returned file holds the lock that
// tells other processes that the owner lives.
func newHome() (string, *os.File, error) {
	// Named differently until it is locked, so that no sweep takes it for dead.
	dir, err := os.MkdirTemp("", "sojourn-new-")
	if err != nil {
		return "", nil, err
	}
	owner, err := os.OpenFile(filepath.Join(dir, ownerFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, err
	}
	home := filepath.Join(filepath.Dir(dir), homePrefix+strings.TrimPrefix(filepath.Base(dir), "sojourn-new-"))
	err = lock(owner, true)
	if err == nil {
		err = os.Chmod(dir, 0o711) // the server's user must get through
	}
	if err == nil {
		err = os.Rename(dir, home)
	}
	if err != nil {
		owner.Close()
		os.RemoveAll(dir)
		return "", nil, err
	}
	return home, owner, nil
}

// sweep ends the servers and removes the folders of processes that died
// without cleaning up. What cannot be removed is left for the next time.
func sweep(ctx context.Context) {
	files, err := filepath.Glob(filepath.Join(os.TempDir(), homePrefix+"*", ownerFile))
	if err != nil {
		return
	}
	for _, path := range files {
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || !ours(info) {
			continue
		}
		owner, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if tryLock(owner) {
			home := filepath.Dir(path)
			endOrphan(ctx, filepath.Join(home, "data"))
			os.RemoveAll(home)
		}
		owner.Close()
	}
}

// endOrphan kills the server of a data folder if it still runs.
func endOrphan(ctx context.Context, dataDir string) {
	lines, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return
	}
	first, _, _ := strings.Cut(string(lines), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return
	}
	// The number may belong to another process by now.
	if line, err := commandLine(ctx, pid); err != nil || !strings.Contains(line, dataDir) {
		return
	}
	master, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	killTree(ctx, master)
}

// killTree ends a postmaster and its children without a chance to say goodbye,
// and waits until they are gone: until then they hold the shared memory, and the
// folder cannot be used again. The postmaster is stopped first, so that it
// neither forks nor cleans up in between.
func killTree(ctx context.Context, master *os.Process) {
	_ = master.Signal(sigPause)
	pids, _ := children(ctx, master.Pid) // without the list the master's death still ends them, only later
	for _, pid := range pids {
		if child, err := os.FindProcess(pid); err == nil {
			_ = child.Kill()
			_ = child.Release()
		}
	}
	_ = master.Kill()
	for _, pid := range append(pids, master.Pid) {
		awaitEnd(ctx, pid)
	}
}

// awaitEnd returns when the process has ended, reaped or not, or ctx has.
func awaitEnd(ctx context.Context, pid int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if line, err := commandLine(ctx, pid); err != nil || line == "" { // no command line: a zombie
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
