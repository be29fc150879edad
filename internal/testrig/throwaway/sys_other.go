//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package throwaway

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

// The signals that servers are controlled with.
const (
	Interrupt = unsupportedSignal("interrupt")
	Terminate = unsupportedSignal("terminate")
	Quit      = unsupportedSignal("quit")
	Kill      = unsupportedSignal("kill")
	Pause     = unsupportedSignal("pause")
	Resume    = unsupportedSignal("resume")
)

type unsupportedSignal string

func (s unsupportedSignal) String() string { return string(s) }
func (unsupportedSignal) Signal()          {}

// Account is the user that servers run as.
type Account struct{}

// ServerAccount is asked first by everything that runs a server.
func ServerAccount(...string) (*Account, error) { return nil, errors.ErrUnsupported }

// Prepare does nothing here.
func (*Account) Prepare(*exec.Cmd, ...string) {}

// Own is not supported here.
func (*Account) Own(string) error { return errors.ErrUnsupported }

// WriteFile is not supported here.
func (*Account) WriteFile(string, string) error { return errors.ErrUnsupported }

// Mkdir is not supported here.
func (*Account) Mkdir(string) error { return errors.ErrUnsupported }

// Lock is not supported here.
func Lock(*os.File, bool) error { return errors.ErrUnsupported }

// TryLock takes no lock here.
func TryLock(*os.File) bool { return false }

// Children is not supported here.
func Children(context.Context, int) ([]int, error) { return nil, errors.ErrUnsupported }

// CommandLine is not supported here.
func CommandLine(context.Context, int) (string, error) { return "", errors.ErrUnsupported }

func setDeathSignal(*exec.Cmd, os.Signal) {}
func ours(os.FileInfo) bool               { return false }

// CheckPrivate is not supported here.
func CheckPrivate(string) error { return errors.ErrUnsupported }

const memoryDir = "" // there is none

func memoryFree() uint64 { return 0 }
