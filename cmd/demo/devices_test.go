package main

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestUserAgentsBecomeDevices(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                  "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36":                         "Chrome on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0":           "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15":                   "Safari on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36":                            "Chrome on Android",
		"curl/7.88.1":                 "curl",
		"":                            "a program",
		"/":                           "a program",
		"\xff\xfe":                    "a program",
		strings.Repeat("ä", 30):       strings.Repeat("ä", 20),
		"x" + strings.Repeat("ä", 30): "x" + strings.Repeat("ä", 19),
	} {
		if got := deviceOf(agent); got != want {
			t.Errorf("%q: got %q, want %q", agent, got, want)
		}
	}
}

func TestFormsLeadToThePageOfDevices(t *testing.T) {
	t.Parallel()
	h, _ := newNode(t)
	accept := http.Header{"Accept": {"text/html,application/xhtml+xml,*/*;q=0.8"}}
	var id string
	send := func(method, path string, form url.Values) (*http.Response, string) {
		answer := sendTo(h, method, path, id, form, accept)
		for _, c := range answer.Cookies() {
			id = c.Value
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, string(body)
	}
	post := func(path string, form url.Values) {
		answer, _ := send("POST", path, form)
		if answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Location") != devicesPath {
			t.Fatalf("%s: %s, %v", path, answer.Status, answer.Header)
		}
	}
	shows := func(yes, no string) {
		t.Helper()
		answer, body := send("GET", devicesPath, nil)
		if answer.StatusCode != http.StatusOK || !strings.Contains(body, yes) || strings.Contains(body, no) {
			t.Errorf("%s: it should say %q and not %q:\n%s", answer.Status, yes, no, body)
		}
		csp := answer.Header.Get("Content-Security-Policy")
		if strings.Contains(csp, "unsafe") || strings.Contains(body, "<script") || strings.Contains(body, "style=") {
			t.Errorf("under %q:\n%s", csp, body)
		}
	}
	const greeting = "You are logged in as &lt;b&gt;alice"
	shows("Nobody is logged in", greeting)
	post("/login", url.Values{"user": {"<b>alice"}, "label": {"<i>laptop"}})
	shows(greeting, "<b>")
	shows("&lt;i&gt;laptop", greeting)

	var other view
	ask(t, h, "POST", "/login?user=%3Cb%3Ealice&label=phone", "", nil, &other)
	shows(`value="`+other.Key+`"`, greeting)
	post("/revoke", url.Values{"key": {other.Key}})
	shows("That device is logged out.", "phone")
	shows("this one", "That device is logged out.")

	answer, body := send("POST", "/revoke", url.Values{"key": {other.Key}})
	if answer.StatusCode != http.StatusNotFound || !strings.Contains(body, "no such session of yours") || !strings.Contains(body, "<html") {
		t.Errorf("%s:\n%s", answer.Status, body)
	}
	post("/revoke-others", nil)
	shows("Logged out elsewhere: 0.", "phone")
	post("/logout", nil)
	if id != "" {
		t.Error("the cookie is still there")
	}
	shows("Nobody is logged in", "alice.")
	if answer, _ := send("GET", "/me", nil); answer.StatusCode != http.StatusUnauthorized {
		t.Error(answer.Status)
	}
}

func TestStayingLoggedInIsACookieThatLasts(t *testing.T) {
	t.Parallel()
	h, _ := newNode(t)
	for path, want := range map[string]time.Duration{"/login?user=alice": 0, "/login?user=alice&keep=1": kept} {
		answer := sendTo(h, "POST", path, "", nil, nil)
		cookies := answer.Cookies()
		if len(cookies) != 1 {
			t.Fatalf("%s: %s, %v", path, answer.Status, cookies)
		}
		c := cookies[0]
		lasts := time.Duration(c.MaxAge) * time.Second
		if lasts > want || lasts < want-time.Hour || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" {
			t.Errorf("%s: %v", path, c.Raw[len(cookieName)+1+len(c.Value):])
		}
	}
}

func TestLoggingOutHasTheBrowserForgetTheSite(t *testing.T) {
	t.Parallel()
	h, _ := newNode(t)
	var v view
	id := ask(t, h, "POST", "/login?user=alice", "", nil, &v)
	answer := sendTo(h, "POST", "/logout", id, nil, nil)
	if answer.StatusCode != http.StatusOK || !strings.Contains(answer.Header.Get("Clear-Site-Data"), `"cookies"`) {
		t.Errorf("%s, %v", answer.Status, answer.Header)
	}
	answer = sendTo(h, "GET", "/me", id, nil, nil)
	if answer.StatusCode != http.StatusUnauthorized || len(answer.Cookies()) > 0 || answer.Header.Get("Vary") != "Cookie" {
		t.Errorf("with the old cookie: %s, %v", answer.Status, answer.Header)
	}
}
