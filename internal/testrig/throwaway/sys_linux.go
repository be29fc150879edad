package throwaway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// setDeathSignal makes the child get the signal when the thread ends that
// starts it.
func setDeathSignal(cmd *exec.Cmd, sig os.Signal) {
	if s, ok := sig.(syscall.Signal); ok {
		cmd.SysProcAttr.Pdeathsig = s
	}
}

// memoryDir is the folder for files in memory.
const memoryDir = "/dev/shm"

// memoryFree is how many bytes we may put there.
func memoryFree() uint64 {
	const tmpfs, write = 0x01021994, 2 // of statfs(2) and access(2)
	var fs syscall.Statfs_t
	err := errors.Join(syscall.Statfs(memoryDir, &fs), syscall.Access(memoryDir, write))
	if err != nil || fs.Type != tmpfs {
		return 0
	}
	return fs.Bavail * uint64(fs.Bsize)
}

// Children returns the direct children of a process.
func Children(_ context.Context, pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		// pid (program name, which may hold anything) state ppid ...
		_, rest, ok := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		pids = append(pids, child)
	}
	return pids, nil
}

// CommandLine returns the words of a process's command line, with a space
// after each.
func CommandLine(_ context.Context, pid int) (string, error) {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return strings.ReplaceAll(string(line), "\x00", " "), err
}
