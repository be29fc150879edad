package node

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const secret = "the secret of both sides"

// TestTheListingsOfTheMove runs the two programs of docs/express.md and moves
// between them as a visitor does.
func TestTheListingsOfTheMove(t *testing.T) {
	t.Parallel()
	needNode(t)
	page, err := os.ReadFile("../../docs/express.md")
	if err != nil {
		t.Fatal(err)
	}
	db := postgres(t)
	env := map[string]string{"DATABASE_URL": db.URL, "SESSION_SECRET": secret}
	js := filepath.Join(t.TempDir(), "app.js")
	write(t, js, strings.Replace(listing(t, string(page), "js"), "require('express')", "require('express-4')", 1))
	node := useHub(t)
	number, _ := node.open(t, "listing", map[string]any{"path": js, "env": env})

	// Node has run before: its first request makes the table.
	v := &mover{t: t, url: fmt.Sprintf("http://127.0.0.1:%d/%d/app", node.port, number)}
	v.client.Timeout = patience
	t.Cleanup(v.client.CloseIdleConnections)
	v.want("POST /login?user=ann", http.StatusOK, "welcome ann")
	v.cookie = ""

	env["NODE_URL"] = v.url
	env["ADDRESS"] = "127.0.0.1:0"
	v.url = "http://" + runListing(t, listing(t, string(page), "go"), env)

	sameOrigin, crossSite := "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"
	v.want("GET /account", http.StatusUnauthorized, "log in")
	v.want("GET /orders", http.StatusUnauthorized, "Unauthorized") // by Express

	// A login in Express is seen in Go.
	v.want("POST /login?user=ann", http.StatusOK, "welcome ann", sameOrigin)
	account := v.want("GET /account", http.StatusOK, `account of ann, theme "", token `)
	v.want("GET /orders", http.StatusOK, "orders of ann")

	// A token is good on both sides.
	token := "X-CSRF-Token: " + account[strings.LastIndexByte(account, ' ')+1:]
	v.want("POST /orders", http.StatusOK, "ordered", sameOrigin, token)
	v.want("POST /orders", http.StatusForbidden, "Forbidden", sameOrigin)
	v.want("POST /account?theme=dark", http.StatusOK, "changed", sameOrigin, token)
	v.want("POST /account?theme=light", http.StatusForbidden, "the token is wrong", sameOrigin)
	v.want("GET /account", http.StatusOK, `account of ann, theme "dark"`)

	// A logout in Go is seen in Express, also by who kept the cookie.
	kept := v.cookie
	v.want("POST /logout", http.StatusOK, "bye", sameOrigin)
	v.cookie = kept
	v.want("GET /orders", http.StatusUnauthorized, "Unauthorized")

	// Posts of another origin reach Express only where they are exempt.
	v.cookie = ""
	v.want("POST /login?user=eve", http.StatusForbidden, "cross-origin", crossSite, "Origin: https://evil.example")
	v.want("POST /saml/callback", http.StatusOK, "welcome saml user", crossSite, "Origin: https://idp.example")
	v.want("POST /saml/callback", http.StatusOK, "welcome saml user", crossSite, "Origin: null")
	v.want("GET /account", http.StatusOK, "account of saml user")
}

// listing is the first one of a language.
func listing(t testing.TB, page, language string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, "\n```"+language+"\n")
	code, _, ends := strings.Cut(rest, "\n```\n")
	if !found || !ends {
		t.Fatalf("docs/express.md has no listing of %s", language)
	}
	return code + "\n"
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runListing compiles and starts a program of Go, which ends in good order with
// the test, and returns where it serves.
func runListing(t testing.TB, code string, env map[string]string) (address string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "main.go"), code)
	program := filepath.Join(dir, "main")
	if out, err := exec.Command("go", "build", "-o", program, filepath.Join(dir, "main.go")).CombinedOutput(); err != nil {
		t.Fatalf("the listing does not compile: %v\n%s", err, out)
	}
	cmd := exec.Command(program)
	cmd.Env = os.Environ()
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	printed, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	lines := bufio.NewReader(printed)
	t.Cleanup(func() {
		defer kill.Stop()
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		rest, _ := io.ReadAll(lines)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the listing ends with %v", err)
		}
		if t.Failed() {
			t.Logf("the listing printed %s", rest)
		}
	})
	line, err := lines.ReadString('\n')
	_, address, found := strings.Cut(strings.TrimSpace(line), "serving on ")
	if err != nil || !found {
		t.Fatalf("the listing says %q (%v), want where it serves", line, err)
	}
	return address
}

// mover is a browser with one cookie.
type mover struct {
	t           testing.TB
	url, cookie string
	client      http.Client
}

// want sends a request with some header lines and checks the status and how the
// text begins, which it returns.
func (v *mover) want(request string, status int, begins string, lines ...string) string {
	v.t.Helper()
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.url+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	if v.cookie != "" {
		r.Header.Set("Cookie", v.cookie)
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status || !strings.HasPrefix(string(text), begins) {
		v.t.Errorf("%s: %d %q (%v), want %d %q", request, resp.StatusCode, text, err, status, begins)
	}
	for _, line := range resp.Header.Values("Set-Cookie") {
		v.cookie, _, _ = strings.Cut(line, ";")
	}
	return string(text)
}
