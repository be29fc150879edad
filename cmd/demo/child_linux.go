package main

import (
	"os/exec"
	"syscall"
)

// attach makes the child stop when the thread that started it ends, and keeps
// Ctrl-C in a terminal to ourselves.
func attach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
