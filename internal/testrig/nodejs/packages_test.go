package nodejs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a Node whose npm installs an empty package and keeps count, and whose
// node-gyp is run by sh.
func fake(t *testing.T, gyp string) (i Installation, manifests string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	t.Setenv("HOME", dir)
	t.Setenv("GYP", gyp)
	t.Setenv("COUNT", filepath.Join(dir, "count"))
	write(t, filepath.Join(dir, "npm"), `#!/bin/sh
set -e
echo run >>"$COUNT"
mkdir -p node_modules/node-gyp/bin node_modules/native
echo "$GYP" >node_modules/node-gyp/bin/node-gyp.js
`)
	write(t, filepath.Join(dir, "include", "node", "node.h"), "")
	manifests = filepath.Join(dir, "manifests")
	for _, name := range manifest {
		write(t, filepath.Join(manifests, name), "{}")
	}
	return Installation{Version: "v20.0.0", Node: "/bin/sh", NPM: filepath.Join(dir, "npm"), prefix: dir}, manifests
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func runs(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(os.Getenv("COUNT"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "run")
}

func cacheDir(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(cache, "sojourn-node")
}

func cached(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(cacheDir(t), "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestPackagesAreInstalledOncePerLockFile(t *testing.T) {
	i, manifests := fake(t, "touch compiled")
	if err := i.CanCompile(); err != nil {
		t.Skip(err)
	}
	var dirs []string
	for _, lock := range []string{"{}", "{}", `{"changed": true}`} {
		write(t, filepath.Join(manifests, "package-lock.json"), lock)
		p, err := i.Packages(t.Context(), manifests, []string{"native"})
		if err != nil || p.Native != nil {
			t.Fatal(err, p.Native)
		}
		if _, err := os.Stat(filepath.Join(p.Dir, "native", "compiled")); err != nil {
			t.Error("it was not compiled:", err)
		}
		dirs = append(dirs, p.Dir)
	}
	if dirs[0] != dirs[1] || dirs[1] == dirs[2] {
		t.Errorf("folders for the same, the same and another lock file: %q", dirs)
	}
	if n := runs(t); n != 2 {
		t.Errorf("npm ran %d times, want 2", n)
	}
}

func TestConcurrentInstallationsEndInOneFolder(t *testing.T) {
	i, manifests := fake(t, "touch compiled")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := i.Packages(t.Context(), manifests, []string{"native"}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if found := cached(t); len(found) != 1 {
		t.Errorf("the cache holds %q, want one folder", found)
	}
}

func TestWhatCannotBeCompiledIsTriedAgain(t *testing.T) {
	i, manifests := fake(t, "echo no such header; exit 1")
	if err := i.CanCompile(); err != nil {
		t.Skip(err)
	}
	for range 2 {
		p, err := i.Packages(t.Context(), manifests, []string{"native"})
		if err != nil {
			t.Fatal(err)
		}
		if p.Native == nil || !strings.Contains(p.Native.Error(), "no such header") {
			t.Fatalf("Native is %v, want what the compiler said", p.Native)
		}
	}
	t.Setenv("GYP", "touch compiled")
	if p, err := i.Packages(t.Context(), manifests, []string{"native"}); err != nil || p.Native != nil {
		t.Errorf("with a compiler: %v, %v", err, p.Native)
	}
}

func TestWithoutHeadersTheOtherPackagesWork(t *testing.T) {
	i, manifests := fake(t, "touch compiled")
	i.prefix = t.TempDir()
	for range 2 {
		p, err := i.Packages(t.Context(), manifests, []string{"native"})
		if err != nil {
			t.Fatal(err)
		}
		if p.Native == nil || !strings.Contains(p.Native.Error(), "headers") {
			t.Errorf("Native is %v, want that the headers are missing", p.Native)
		}
	}
	if n := runs(t); n != 1 {
		t.Errorf("npm ran %d times, want once", n)
	}
}

func TestFailedInstallationLeavesNothing(t *testing.T) {
	i, manifests := fake(t, "")
	write(t, i.NPM, "#!/bin/sh\necho the registry is gone; exit 1\n")
	abandoned := filepath.Join(cacheDir(t), installing+"1")
	write(t, filepath.Join(abandoned, "x"), "")
	if err := os.Chtimes(abandoned, time.Time{}, time.Now().Add(-48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	_, err := i.Packages(t.Context(), manifests, []string{"native"})
	if err == nil || !strings.Contains(err.Error(), "the registry is gone") {
		t.Errorf("got %v, want what npm said", err)
	}
	if found := cached(t); len(found) != 0 {
		t.Errorf("the cache holds %q", found)
	}
}

func TestOldNodeIsLikeNone(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for version, ok := range map[string]bool{"v16.20.2": false, "v18.20.4": true, "v22.1.0": true} {
		write(t, filepath.Join(dir, "node"), "#!/bin/sh\necho "+version+" /usr/bin/node\n")
		write(t, filepath.Join(dir, "npm"), "#!/bin/sh\n")
		if got, err := Find(t.Context()); (err == nil) != ok || !ok && !errors.Is(err, ErrNotInstalled) {
			t.Errorf("%s: %+v, %v", version, got, err)
		}
	}
}
