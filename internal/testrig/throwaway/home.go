package throwaway

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The names of homes, and of what is in each.
const (
	homePrefix = "sojourn-server-"
	ownerFile  = "owner.lock"
	pidFile    = "pid" // the server's process
)

// Home is the folder of one server.
type Home struct {
	Dir   string
	owner *os.File // holds the lock that tells other processes that we live
}

// NewHome creates a folder. Every user can pass through it and only we can list
// it. It is in [TempDir], unless it is durable: what is in memory ends with the
// machine.
func NewHome(durable bool) (*Home, error) {
	parent := os.TempDir()
	if !durable {
		parent = TempDir()
	}
	const fresh = "sojourn-new-"
	// Named differently until it is locked, so that no sweep takes it for dead.
	dir, err := os.MkdirTemp(parent, fresh)
	if err != nil {
		return nil, err
	}
	owner, err := os.OpenFile(filepath.Join(dir, ownerFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	home := filepath.Join(filepath.Dir(dir), homePrefix+strings.TrimPrefix(filepath.Base(dir), fresh))
	err = Lock(owner, true)
	if err == nil {
		err = os.Chmod(dir, 0o711) // the server's user must get through
	}
	if err == nil {
		err = os.Rename(dir, home)
	}
	if err != nil {
		return nil, errors.Join(err, owner.Close(), os.RemoveAll(dir))
	}
	return &Home{Dir: home, owner: owner}, nil
}

// Close removes the folder, whose server must have ended.
func (h *Home) Close() error { return errors.Join(os.RemoveAll(h.Dir), h.owner.Close()) }

// Sweep ends the servers and removes the homes of processes that died without
// cleaning up. What cannot be removed is left for the next time.
func Sweep(ctx context.Context) {
	for _, parent := range []string{os.TempDir(), memoryDir} {
		if parent == "" {
			continue
		}
		owners, _ := filepath.Glob(filepath.Join(parent, homePrefix+"*", ownerFile)) // a constant pattern is never malformed
		for _, path := range owners {
			sweepHome(ctx, path)
		}
	}
}

// sweepHome removes the home of an owner's file if its owner is dead.
func sweepHome(ctx context.Context, path string) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || !ours(info) {
		return
	}
	owner, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer owner.Close()
	if !TryLock(owner) {
		return
	}
	home := filepath.Dir(path)
	if server := orphan(ctx, home); server != nil {
		killTree(ctx, server)
	}
	_ = os.RemoveAll(home)
}

// orphan returns the process that still serves a home, or nil. The number that
// was written there may belong to another process: the command line of the
// right one names the home.
func orphan(ctx context.Context, home string) *os.Process {
	text, err := os.ReadFile(filepath.Join(home, pidFile))
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil || pid <= 1 {
		return nil
	}
	if line, err := CommandLine(ctx, pid); err != nil || !strings.Contains(line, home) {
		return nil
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil
	}
	return p
}
