//go:build darwin || freebsd || netbsd || openbsd

package throwaway

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// There is no parent death signal: Sweep cleans up after a killed process.
func setDeathSignal(*exec.Cmd, os.Signal) {}

// Children returns the direct children of a process.
func Children(ctx context.Context, pid int) ([]int, error) {
	out, err := exec.CommandContext(ctx, "ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		child, err := strconv.Atoi(fields[0])
		if err != nil {
			return nil, err
		}
		pids = append(pids, child)
	}
	return pids, nil
}

// CommandLine returns the command line of a process.
func CommandLine(ctx context.Context, pid int) (string, error) {
	out, err := exec.CommandContext(ctx, "ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return string(out), err
}

const memoryDir = "" // there is none

func memoryFree() uint64 { return 0 }
