package throwaway

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const ownerFile = "owner.lock"

// Home is the folder of one server.
type Home struct {
	Dir   string
	owner *os.File // holds the lock that tells other processes that we live
}

// NewHome creates a folder whose name begins with prefix. Every user can pass
// through it and only we can list it. It is in [TempDir], unless it is
// durable: what is in memory ends with the machine.
func NewHome(prefix string, durable bool) (*Home, error) {
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
	home := filepath.Join(filepath.Dir(dir), prefix+strings.TrimPrefix(filepath.Base(dir), fresh))
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

// Sweep removes the folders with the prefix of processes that died without
// cleaning up; end is called before with each of them, to end its server. What
// cannot be removed is left for the next time.
func Sweep(prefix string, end func(home string)) {
	for _, parent := range []string{os.TempDir(), memoryDir} {
		if parent == "" {
			continue
		}
		files, _ := filepath.Glob(filepath.Join(parent, prefix+"*", ownerFile)) // a constant pattern is never malformed
		sweep(files, end)
	}
}

func sweep(files []string, end func(home string)) {
	for _, path := range files {
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || !ours(info) {
			continue
		}
		owner, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if TryLock(owner) {
			home := filepath.Dir(path)
			end(home)
			os.RemoveAll(home)
		}
		owner.Close()
	}
}

// Orphan returns the process that wrote its number into the first line of
// pidFile, or nil if it has ended. The number may belong to another process by
// now: the command line of the right one names dataDir.
func Orphan(ctx context.Context, pidFile, dataDir string) *os.Process {
	lines, err := os.ReadFile(pidFile)
	if err != nil {
		return nil
	}
	first, _, _ := strings.Cut(string(lines), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return nil
	}
	if line, err := CommandLine(ctx, pid); err != nil || !strings.Contains(line, dataDir) {
		return nil
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil
	}
	return p
}

// AwaitEnd returns when the process has ended, reaped or not, or ctx has.
func AwaitEnd(ctx context.Context, pid int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if line, err := CommandLine(ctx, pid); err != nil || line == "" { // no command line: a zombie
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
