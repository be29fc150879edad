//go:build unix

package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/chromium"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
)

// browser is a Chromium that all tests share. Each has a domain of its own, so that
// they neither see nor clear each other's cookies.
type browser struct {
	cmd     *exec.Cmd
	dir     string
	control string // the address of its DevTools
}

var shared struct {
	once sync.Once
	b    *browser
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.b != nil {
		shared.b.close()
	}
	os.Exit(code)
}

// start returns the browser. Where none is installed the test is skipped, and fails
// where CI=true is set.
func start(t *testing.T) *browser {
	t.Helper()
	path, err := chromium.Find()
	if errors.Is(err, chromium.ErrNotInstalled) && os.Getenv("CI") != "true" {
		t.Skipf("%v; run: %s", err, chromium.InstallHint())
	}
	if err != nil {
		t.Fatal(err)
	}
	shared.once.Do(func() { shared.b, shared.err = launch(path) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.b
}

func launch(path string) (*browser, error) {
	dir, err := os.MkdirTemp("", "sojourn-browser-")
	if err != nil {
		return nil, err
	}
	b := &browser{dir: dir}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b.cmd = exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--ignore-certificate-errors", "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost, EXCLUDE *.localhost",
		"--user-data-dir="+filepath.Join(dir, "profile"), "--remote-debugging-port=0", "about:blank")
	b.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir)
	b.cmd.Stdout, b.cmd.Stderr = log, log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its helpers end with it
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	until := time.Now().Add(dbtest.Patience)
	for {
		port, err := os.ReadFile(filepath.Join(dir, "profile", "DevToolsActivePort"))
		if first, _, ok := strings.Cut(string(port), "\n"); err == nil && ok {
			b.control = "http://127.0.0.1:" + first
			return b, nil
		}
		if time.Now().After(until) {
			text, _ := os.ReadFile(log.Name())
			b.close()
			return nil, fmt.Errorf("chromium does not listen: %s", text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// close ends the browser and its helpers.
func (b *browser) close() {
	_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL)
	_ = b.cmd.Wait()
	for range 100 { // its helpers may still write
		if os.RemoveAll(b.dir) == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// open opens a tab.
func (b *browser) open(ctx context.Context, address string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, b.control+"/json/new?"+url.QueryEscape(address), nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("open a tab: %d %s %w", answer.StatusCode, text, err)
	}
	return nil
}
