//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package pgserver

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

const (
	sigFast      = unsupportedSignal("fast shutdown")
	sigImmediate = unsupportedSignal("immediate shutdown")
	sigPause     = unsupportedSignal("pause")
	sigResume    = unsupportedSignal("resume")
)

type unsupportedSignal string

func (s unsupportedSignal) String() string { return string(s) }
func (unsupportedSignal) Signal()          {}

type account struct{}

// serverAccount is asked first by everything that runs a server.
func serverAccount() (*account, error) { return nil, errors.ErrUnsupported }

func (*account) prepare(*exec.Cmd)                     {}
func setDeathSignal(*exec.Cmd)                         {}
func (*account) own(string) error                      { return errors.ErrUnsupported }
func lock(*os.File, bool) error                        { return errors.ErrUnsupported }
func tryLock(*os.File) bool                            { return false }
func ours(os.FileInfo) bool                            { return false }
func children(context.Context, int) ([]int, error)     { return nil, errors.ErrUnsupported }
func commandLine(context.Context, int) (string, error) { return "", errors.ErrUnsupported }
