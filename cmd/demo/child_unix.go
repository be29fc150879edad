//go:build darwin || freebsd || netbsd || openbsd

package main

import (
	"os/exec"
	"syscall"
)

// attach keeps Ctrl-C in a terminal to ourselves. The child notices our end by
// the end of its input.
func attach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
