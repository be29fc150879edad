package mysqlserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/throwaway"
)

const (
	suite       = "sid" // the only one of Debian that has MySQL
	keyring     = "/usr/share/keyrings/debian-archive-keyring.gpg"
	mysqlDebian = "mysql-server-core"
	unpackLimit = 5 * time.Minute
)

// cacheDir is where MySQL is unpacked: in the user's cache folder, but for root,
// below whose home the servers' user cannot get.
func cacheDir() string {
	if os.Geteuid() != 0 {
		if dir, err := os.UserCacheDir(); err == nil {
			return filepath.Join(dir, "sojourn-mysql-server")
		}
	}
	return "/var/tmp/sojourn-mysql-" + strconv.Itoa(os.Geteuid())
}

// inspectUnpacked returns what unpack has made. A folder that others can write
// to is not used: they could put a program there for us to run.
func inspectUnpacked(ctx context.Context) (Installation, error) {
	if err := throwaway.CheckPrivate(cacheDir()); err != nil {
		return Installation{}, err
	}
	return inspectRoot(ctx, filepath.Join(cacheDir(), "root"))
}

// inspectRoot returns the MySQL that is unpacked below root. It is run with the
// C library it was made for, which may be newer than the system's.
func inspectRoot(ctx context.Context, root string) (Installation, error) {
	program := filepath.Join(root, "usr", "sbin", "mysqld")
	loaders, err := filepath.Glob(filepath.Join(root, "usr", "lib", "*-linux-gnu*", "ld-linux-*.so.*"))
	if err != nil {
		return Installation{}, err
	}
	if len(loaders) != 1 {
		return Installation{}, fmt.Errorf("%s: %d program loaders, want one", root, len(loaders))
	}
	share := filepath.Join(root, "usr", "share", "mysql")
	inst := Installation{
		Flavour: MySQL, Program: program,
		command: []string{loaders[0], "--library-path", filepath.Dir(loaders[0]) + ":" + filepath.Join(root, "usr", "lib", "mysql", "private"), program},
		args: []string{
			"--basedir=" + filepath.Join(root, "usr"),
			"--lc-messages-dir=" + share,
			"--character-sets-dir=" + filepath.Join(share, "charsets"),
			"--plugin-dir=" + filepath.Join(root, "usr", "lib", "mysql", "plugin"),
		},
	}
	return inst, inst.ask(ctx)
}

// unpack makes the folder that inspectUnpacked looks into, unless it is there.
// One process does it and others wait; the folder appears as a whole.
func unpack(ctx context.Context, out io.Writer) error {
	if err := unpackable(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, unpackLimit)
	defer cancel()
	cache := cacheDir()
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	if err := throwaway.CheckPrivate(cache); err != nil {
		return err
	}
	if err := os.Chmod(cache, 0o755); err != nil { // whatever our umask says
		return err
	}
	guard, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer guard.Close()
	if err := throwaway.Lock(guard, true); err != nil {
		return err
	}
	if _, err := inspectUnpacked(ctx); err == nil {
		return nil
	}
	for _, left := range []string{"new", "root"} { // of a process that was killed, or broken
		if err := os.RemoveAll(filepath.Join(cache, left)); err != nil {
			return err
		}
	}
	fresh := filepath.Join(cache, "new")
	defer os.RemoveAll(fresh)
	if err := download(ctx, out, fresh); err != nil {
		return err
	}
	root := filepath.Join(fresh, "root")
	if err := extract(ctx, filepath.Join(fresh, "archives"), root); err != nil {
		return err
	}
	if _, err := inspectRoot(ctx, root); err != nil {
		return err
	}
	return os.Rename(root, filepath.Join(cache, "root"))
}

// download gets the packages of MySQL and of all it needs into dir/archives.
// The system's own lists and packages are neither used nor changed.
func download(ctx context.Context, out io.Writer, dir string) error {
	for _, sub := range []string{"lists/partial", "archives/partial", "parts"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	repo, err := repository(ctx)
	if err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	source := fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, repo, suite)
	for name, text := range map[string]string{"sources.list": source, "status": ""} { // nothing is installed
		if err := os.WriteFile(path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	options := []string{
		"-q", "-y",
		"-o", "Dir::Etc::sourcelist=" + path("sources.list"),
		"-o", "Dir::Etc::sourceparts=" + path("parts"),
		"-o", "Dir::Etc::preferences=" + path("none"),
		"-o", "Dir::Etc::preferencesparts=" + path("parts"),
		"-o", "Dir::State::status=" + path("status"),
		"-o", "Dir::State::lists=" + path("lists"),
		"-o", "Dir::Cache=" + dir,
		"-o", "Dir::Cache::archives=" + path("archives"),
		"-o", "APT::Install-Recommends=0",
		"-o", "APT::Sandbox::User=root",
		"-o", "APT::Update::Post-Invoke=", "-o", "APT::Update::Post-Invoke-Success=",
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::Retries=2",
		"-o", "Debug::NoLocking=1",
	}
	for _, args := range [][]string{{"update"}, {"--download-only", "install", mysqlDebian}} {
		fmt.Fprintf(out, "+ apt-get %s (suite %s, into %s)\n", strings.Join(args, " "), suite, dir)
		cmd := exec.CommandContext(ctx, "apt-get", append(options, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", args[0], err, said)
		}
	}
	return nil
}

// repository is the mirror that this machine gets its packages from.
func repository(ctx context.Context) (string, error) {
	said, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	first, _, _ := strings.Cut(string(said), "\n")
	if first == "" {
		return "", errors.New("apt-get knows no Debian mirror")
	}
	return first, nil
}

// extract unpacks what a server needs.
func extract(ctx context.Context, archives, root string) error {
	packages, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(root, 0o755), os.Chmod(root, 0o755)); err != nil {
		return err
	}
	for _, name := range packages {
		if base := filepath.Base(name); strings.HasPrefix(base, "perl") || strings.HasPrefix(base, "libperl") {
			continue // for scripts that are not used
		}
		if said, err := exec.CommandContext(ctx, "dpkg-deb", "-x", name, root).CombinedOutput(); err != nil {
			return fmt.Errorf("dpkg-deb -x %s: %w: %s", filepath.Base(name), err, said)
		}
	}
	return os.RemoveAll(filepath.Join(root, "usr", "bin")) // a third of the size
}
