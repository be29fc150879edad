package node

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// TestASessionGoesFromAppToApp logs in, changes and logs out on any two of the
// apps of one site.
func TestASessionGoesFromAppToApp(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		if k.tables {
			continue
		}
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			s := k.site(t)
			for _, a := range s.apps {
				for _, b := range s.apps {
					t.Run(a+" and "+b, func(t *testing.T) { goesOn(t, s, a, b) })
				}
			}
			t.Run("requests at once", func(t *testing.T) { requestsAtOnce(t, s) })
			t.Run("cookies", func(t *testing.T) { sendTheSameCookies(t, s) })
		})
	}
}

// site is one with all apps that use the package, by the same secret.
func (k kind) site(t testing.TB) *site {
	t.Helper()
	needNode(t)
	db := k.database(t)
	inNode := map[string]nodeApp{}
	for _, name := range k.frameworks() {
		inNode[name] = nodeApp{name, []string{"secret"}, k.maxAgeInNode()}
	}
	apps := startApps(t, k, db, inNode)
	apps["go"] = goApp(t, k, db, "secret") // Node has made the table
	return newSite(t, apps)
}

func goesOn(t *testing.T, s *site, a, b string) {
	const text = "Zoë \U0001F680 \u2028 <a href='x'>&amp;</a> \" \\ +%"
	browser := s.browser(t)
	browser.wantRefused(t, b, "before the login")
	browser.post(t, a, "/login", "user", "ann")
	browser.wantShown(t, b, map[string]string{"user": "ann"})
	browser.post(t, b, "/change", "key", "x", "value", text)
	browser.wantShown(t, a, map[string]string{"user": "ann", "x": text})
	browser.post(t, b, "/touch")
	browser.post(t, a, "/change", "key", "x", "value", "")
	browser.wantShown(t, b, map[string]string{"user": "ann", "x": ""})

	// Another login gives another ID, and the old one is dead.
	before := browser.cookies()
	browser.post(t, b, "/login", "user", "bob")
	browser.wantShown(t, a, map[string]string{"user": "bob"})
	old := s.browser(t)
	old.client.Jar.SetCookies(s.url, before)
	old.wantRefused(t, a, "with the ID from before the second login")

	kept := browser.cookies()
	browser.post(t, b, "/logout")
	browser.client.Jar.SetCookies(s.url, kept)
	browser.wantRefused(t, a, "after the logout")
	browser.wantRefused(t, b, "after the logout")
}

// requestsAtOnce has one browser change different values on Go, while Node
// serves it too, and none of the changes is lost.
func requestsAtOnce(t *testing.T, s *site) {
	browser := s.browser(t)
	browser.post(t, s.apps[0], "/login", "user", "ann")
	want := map[string]string{"user": "ann"}
	var group errgroup.Group
	for i := range 8 {
		key := fmt.Sprint("key", i)
		want[key] = "value"
		for _, request := range []string{"go/change?value=value&key=" + key, s.apps[0] + "/touch"} {
			app, path, _ := strings.Cut(request, "/")
			group.Go(func() error {
				status, _, body, err := browser.send(app, http.MethodPost, "/"+path)
				if err == nil && status/100 != 2 {
					err = fmt.Errorf("POST %s: %d %s", request, status, body)
				}
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, app := range s.apps {
		browser.wantShown(t, app, want)
	}
}

// sendTheSameCookies compares all of them but their values and dates.
func sendTheSameCookies(t *testing.T, s *site) {
	shapes := map[string]string{}
	for _, app := range s.apps {
		header := s.browser(t).post(t, app, "/login", "user", "ann")
		var lines []string
		for _, line := range header.Values("Set-Cookie") {
			line = cookieValue.ReplaceAllString(line, "$1=…")
			lines = append(lines, cookieDate.ReplaceAllString(line, "$1=…"))
		}
		shapes[app] = strings.Join(lines, "\n")
	}
	want := shapes[s.apps[0]]
	if want == "" || strings.Count(want, "…") != 2*(1+strings.Count(want, "\n")) {
		t.Fatalf("%s sends %q, want cookies with a value and a date", s.apps[0], want)
	}
	for app, got := range shapes {
		if got != want {
			t.Errorf("%s sends\n%s\n%s sends\n%s", app, got, s.apps[0], want)
		}
	}
}

var (
	cookieValue = regexp.MustCompile(`^([^=]+)=[^;]*`)
	cookieDate  = regexp.MustCompile(`(?i)(expires)=\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT`)
)

// TestSecretsAreRotatedAcrossGoAndNode has a session begin where only the old
// secret is known and go on where only the new one is, by way of an app that
// knows both.
func TestSecretsAreRotatedAcrossGoAndNode(t *testing.T) {
	t.Parallel()
	secrets := map[string][]string{"old": {"old"}, "both": {"new", "old"}, "new": {"new"}}
	for _, k := range onePerMiddleware() {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			needNode(t)
			db := k.database(t)
			inNode := map[string]nodeApp{}
			for name, keys := range secrets {
				inNode["node-"+name] = nodeApp{k.frameworks()[0], keys, k.maxAgeInNode()}
			}
			apps := startApps(t, k, db, inNode)
			for name, keys := range secrets {
				apps["go-"+name] = goApp(t, k, db, keys...)
			}
			s := newSite(t, apps)
			for _, first := range []string{"node", "go"} {
				for _, second := range []string{"node", "go"} {
					for _, third := range []string{"node", "go"} {
						t.Run(first+" to "+second+" to "+third, func(t *testing.T) {
							rotates(t, s, k, first+"-old", second+"-both", third+"-new")
						})
					}
				}
			}
		})
	}
}

func rotates(t *testing.T, s *site, k kind, before, during, after string) {
	browser := s.browser(t)
	browser.post(t, before, "/login", "user", "ann")
	stranger := s.browser(t) // a refusal may clear cookies
	stranger.client.Jar.SetCookies(s.url, browser.cookies())
	stranger.wantRefused(t, after, "signed with a secret it does not know")

	want := map[string]string{"user": "ann"}
	browser.wantShown(t, during, want)
	if !k.does.koa {
		// Only what sends the cookie anyway signs it anew.
		stranger.client.Jar.SetCookies(s.url, browser.cookies())
		stranger.wantRefused(t, after, "not signed anew yet")
		browser.post(t, during, "/change", "key", "x", "value", "1")
		want["x"] = "1"
	}
	browser.wantShown(t, after, want)
	browser.wantRefused(t, before, "signed with a secret it does not know")
}

// onePerMiddleware is enough for what has to do with cookies only.
func onePerMiddleware() []kind {
	var some []kind
	seen := map[string]bool{}
	for _, k := range kinds {
		if name := k.frameworks()[0]; k.layout.Dialect == kinds[0].layout.Dialect && !seen[name] {
			seen[name], some = true, append(some, k)
		}
	}
	return some
}

func TestForgedCookiesAreRefusedByGoAndNode(t *testing.T) {
	t.Parallel()
	for _, k := range onePerMiddleware() {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			s := k.site(t)
			for _, app := range s.apps {
				forgeries := expressForgeries
				if k.does.koa {
					forgeries = koaForgeries
				}
				for what, forge := range forgeries {
					owner := s.browser(t)
					owner.post(t, app, "/login", "user", "ann")
					for _, other := range s.apps {
						forger := s.browser(t)
						forger.client.Jar.SetCookies(s.url, forge(owner.cookies()))
						forger.wantRefused(t, other, what)
					}
					for _, other := range s.apps {
						owner.wantShown(t, other, map[string]string{"user": "ann"}) // the session lives
					}
				}
			}
		})
	}
}

var expressForgeries = map[string]func([]*http.Cookie) []*http.Cookie{
	"another signature": func(c []*http.Cookie) []*http.Cookie {
		return changed(c, 0, func(v string) string { return flip(v, len(v)-3) })
	},
	"the last character of the signature": func(c []*http.Cookie) []*http.Cookie {
		// It stands for the same bytes, but is not what was signed.
		return changed(c, 0, func(v string) string {
			const base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
			last := len(v) - 1
			return v[:last] + string(base64[strings.IndexByte(base64, v[last])^1])
		})
	},
	"another ID": func(c []*http.Cookie) []*http.Cookie {
		return changed(c, 0, func(v string) string { return flip(v, len("s%3A")) })
	},
	"no signature": func(c []*http.Cookie) []*http.Cookie {
		return changed(c, 0, func(v string) string { sid, _, _ := strings.Cut(v, "."); return sid })
	},
	"the ID alone": func(c []*http.Cookie) []*http.Cookie {
		return changed(c, 0, func(v string) string {
			sid, _, _ := strings.Cut(v, ".")
			return strings.TrimPrefix(sid, "s%3A")
		})
	},
}

var koaForgeries = map[string]func([]*http.Cookie) []*http.Cookie{
	"another signature": func(c []*http.Cookie) []*http.Cookie {
		return changed(c, 1, func(v string) string { return flip(v, 3) })
	},
	"another ID": func(c []*http.Cookie) []*http.Cookie {
		return changed(c, 0, func(v string) string { return flip(v, 3) })
	},
	"no signature": func(c []*http.Cookie) []*http.Cookie { return c[:1] },
}

func changed(cookies []*http.Cookie, i int, change func(string) string) []*http.Cookie {
	c := *cookies[i]
	c.Value = change(c.Value)
	all := append([]*http.Cookie{}, cookies...)
	all[i] = &c
	return all
}

// flip replaces one character by another that the place allows.
func flip(value string, at int) string {
	with := byte('A')
	if value[at] == with {
		with = 'B'
	}
	return value[:at] + string(with) + value[at+1:]
}
