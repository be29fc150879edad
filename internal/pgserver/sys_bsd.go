//go:build darwin || freebsd || netbsd || openbsd

package pgserver

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
)

// There is no parent death signal: sweep cleans up after a killed process.
func setDeathSignal(*exec.Cmd) {}

// children returns the direct children of a process.
func children(ctx context.Context, pid int) ([]int, error) {
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

func commandLine(ctx context.Context, pid int) (string, error) {
	out, err := exec.CommandContext(ctx, "ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return string(out), err
}
