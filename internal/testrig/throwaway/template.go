package throwaway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// TemplateAge is how long a template is used. Temporary folders are cleaned by
// age, cache folders by hand: a template that lost some of its old files would
// break every server made from it.
const TemplateAge = 24 * time.Hour

// templatesFolder is below the user's cache folder.
const templatesFolder = "sojourn-servers"

// Template is an initialised data folder that servers get copies of.
type Template struct {
	Name    string   // begins the name of its folder, such as postgres-15
	Program string   // path of the program that makes it
	Release string   // what that says of itself
	Account *Account // owns the files
	Recipe  string   // what else a template differs by

	// Make makes a data folder at dir and returns the password of its
	// superuser.
	Make func(ctx context.Context, dir string) (password string, err error)
}

// key tells builds apart that call themselves the same, and not where they are
// unpacked.
func (t Template) key() (string, error) {
	program, err := os.Stat(t.Program)
	if err != nil {
		return "", err
	}
	id := fmt.Sprintf("%s\n%d\n%d\n%v\n%s", t.Release, program.Size(), program.ModTime().UnixNano(), t.Account, t.Recipe)
	sum := sha256.Sum256([]byte(id))
	return t.Name + "-" + hex.EncodeToString(sum[:8]), nil
}

// Copy makes a data folder at dir and returns its superuser's password. The
// template is made first if there is none that is fresh.
func (t Template) Copy(ctx context.Context, dir string) (password string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return t.Make(ctx, dir) // no home, no cache
	}
	cache = filepath.Join(cache, templatesFolder)
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	key, err := t.key()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, key)

	// Several test programs start at the same time: one of them makes the
	// template, and nobody replaces it while others copy it.
	guard, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer guard.Close()
	if err := Lock(guard, false); err != nil {
		return "", err
	}
	if !fresh(path) {
		if err := Lock(guard, true); err != nil { // not an upgrade: another may come first
			return "", err
		}
		if !fresh(path) {
			prune(cache)
			if err := t.make(ctx, path); err != nil {
				return "", err
			}
		}
	}
	secret, err := os.ReadFile(filepath.Join(path, "password"))
	if err != nil {
		return "", err
	}
	return string(secret), CopyFolder(ctx, filepath.Join(path, "data"), dir)
}

// prune deletes the templates that are too old to be used.
func prune(cache string) {
	guards, err := filepath.Glob(filepath.Join(cache, "*.lock"))
	if err != nil {
		return
	}
	for _, name := range guards {
		path := strings.TrimSuffix(name, ".lock")
		if fresh(path) {
			continue
		}
		guard, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if TryLock(guard) && !fresh(path) {
			os.RemoveAll(path)
		}
		guard.Close()
	}
}

func fresh(path string) bool {
	info, err := os.Stat(filepath.Join(path, "password"))
	return err == nil && time.Since(info.ModTime()).Abs() < TemplateAge
}

// make initialises in a folder that the server's user can reach and copies the
// result to path.
func (t Template) make(ctx context.Context, path string) (err error) {
	home, err := NewHome(false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, home.Close()) }()
	data := filepath.Join(home.Dir, "data")
	password, err := t.Make(ctx, data)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if err := CopyFolder(ctx, data, filepath.Join(path, "data")); err != nil {
		return err
	}
	// The last file written is the one that fresh looks for.
	return os.WriteFile(filepath.Join(path, "password"), []byte(password), 0o600)
}

// CopyFolder copies a folder with all owners and modes.
func CopyFolder(ctx context.Context, from, to string) error {
	out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, strings.TrimSpace(string(out)))
	}
	return nil
}
