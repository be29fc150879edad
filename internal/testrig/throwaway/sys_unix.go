//go:build linux || darwin || freebsd || netbsd || openbsd

package throwaway

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// The signals that servers are controlled with.
const (
	Interrupt = syscall.SIGINT
	Terminate = syscall.SIGTERM
	Quit      = syscall.SIGQUIT
	Kill      = syscall.SIGKILL
	Pause     = syscall.SIGSTOP
	Resume    = syscall.SIGCONT
)

// Account is the user that servers run as; nil means our own.
type Account struct{ uid, gid uint32 }

// ServerAccount is asked first by everything that runs a server. It returns nil
// unless we are root: then it is the first of the users that exists.
func ServerAccount(names ...string) (*Account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &Account{uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("the server refuses to run as root, and there is no user %s", strings.Join(names, " or "))
}

// Prepare makes cmd run as the account, in a process group of its own (so that
// Ctrl-C reaches us only), in a folder that every user can enter and without
// the environment variables that begin with one of the prefixes.
func (a *Account) Prepare(cmd *exec.Cmd, without ...string) {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	cmd.SysProcAttr = attr
	cmd.Dir = "/"
	cmd.Env = environment(without)
}

// Own gives a file or folder to the account.
func (a *Account) Own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// WriteFile makes a file that only the account can read.
func (a *Account) WriteFile(path, text string) error {
	return errors.Join(os.WriteFile(path, []byte(text), 0o600), a.Own(path))
}

// Mkdir makes a folder that only the account can enter.
func (a *Account) Mkdir(path string) error {
	return errors.Join(os.Mkdir(path, 0o700), a.Own(path))
}

// Lock takes an advisory lock on f; it ends when f is closed or we die.
func Lock(f *os.File, exclusive bool) error {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// TryLock takes an exclusive lock if nobody has one.
func TryLock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// ours reports whether the file belongs to the user we run as.
func ours(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// CheckPrivate returns an error unless dir is a folder that only we can write
// to.
func CheckPrivate(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir() || !ours(info) || info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s is not a folder that only this user can write to", dir)
	}
	return nil
}
