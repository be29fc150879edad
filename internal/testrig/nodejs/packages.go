package nodejs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Packages are installed npm packages.
type Packages struct {
	Dir    string // for NODE_PATH
	Native error  // why native modules cannot be used; nil when they can
}

// installing starts the names of folders that are not complete.
const installing = "installing-"

// manifest are the files that say what to install.
var manifest = []string{"package.json", "package-lock.json", ".npmrc"}

// Packages installs what the lock file in dir names, and compiles those native
// modules. It does so once for each content of the files, in the user's cache
// folder; other processes may ask for the same meanwhile.
//
// The scripts of the packages do not run: some fetch programs.
func (i Installation) Packages(ctx context.Context, dir string, native []string) (Packages, error) {
	found, err := i.packages(ctx, dir, native)
	if err != nil {
		return Packages{}, fmt.Errorf("nodejs: install the packages of %s: %w", dir, err)
	}
	return found, nil
}

func (i Installation) packages(ctx context.Context, dir string, native []string) (Packages, error) {
	name, err := i.cacheName(dir, native)
	if err != nil {
		return Packages{}, err
	}
	complete := name + "-native"
	if exists(complete) {
		return installed(complete, nil), nil
	}
	cannot := i.CanCompile()
	if cannot != nil && exists(name) {
		return installed(name, cannot), nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return Packages{}, err
	}
	removeAbandoned(filepath.Dir(name))
	temp, err := os.MkdirTemp(filepath.Dir(name), installing)
	if err != nil {
		return Packages{}, err
	}
	defer os.RemoveAll(temp)
	if err := i.install(ctx, dir, temp); err != nil {
		return Packages{}, err
	}
	if cannot == nil {
		cannot = i.compile(ctx, temp, native)
	}
	if ctx.Err() != nil {
		return Packages{}, context.Cause(ctx)
	}
	to := complete
	if cannot != nil {
		to = name
	}
	// Another process may have been faster: then its folder is as good.
	if err := os.Rename(temp, to); err != nil && !exists(to) {
		return Packages{}, err
	}
	return installed(to, cannot), nil
}

func installed(dir string, native error) Packages {
	return Packages{Dir: filepath.Join(dir, "node_modules"), Native: native}
}

// removeAbandoned removes what processes left that were killed a day ago or
// more. That others remove the same is fine.
func removeAbandoned(cache string) {
	dirs, _ := filepath.Glob(filepath.Join(cache, installing+"*"))
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(dir)
		}
	}
}

func exists(dir string) bool {
	_, err := os.Stat(dir)
	return err == nil
}

// cacheName is a path that differs for everything that makes packages differ.
func (i Installation) cacheName(dir string, native []string) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, i.Version, i.prefix, runtime.GOOS, runtime.GOARCH, native)
	for _, name := range manifest {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n%s", name, len(text), text)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "sojourn-node", hex.EncodeToString(hash.Sum(nil)[:16])), nil
}

func (i Installation) install(ctx context.Context, from, to string) error {
	for _, name := range manifest {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			return err
		}
	}
	return run(ctx, to, nil, i.NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
}

// compile builds without optimisation, which takes a tenth of the time.
func (i Installation) compile(ctx context.Context, dir string, native []string) error {
	gyp := filepath.Join(dir, "node_modules", "node-gyp", "bin", "node-gyp.js")
	env := []string{"CFLAGS=-O0", "CXXFLAGS=-O0"}
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range native {
		group.Go(func() error {
			module := filepath.Join(dir, "node_modules", name)
			return run(ctx, module, env, i.Node, gyp, "rebuild", "--nodedir="+i.prefix, "--loglevel=error")
		})
	}
	return group.Wait()
}

// run runs a program in a folder. The error holds the end of what it printed.
func run(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second // its children may keep the pipe open
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out[max(0, len(out)-4000):])
	}
	return nil
}
