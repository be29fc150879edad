package nodestore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// Of sessions that are replaced where the browser may not hear of it.

var replacing = map[string]func(turn){
	"regenerated": func(t turn) {
		t.must("Regenerate", t.s.Regenerate(t.ctx()))
		t.must("Set", t.s.Set("views", 1))
	},
	"regenerated, empty": func(t turn) { t.must("Regenerate", t.s.Regenerate(t.ctx())) },
	"renewed":            func(t turn) { t.must("Renew", t.s.Renew(t.ctx())) },
}

// before has a service whose store holds one session.
func before(t testing.TB) *web {
	t.Helper()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, lastingRow)
	return w
}

// untouched fails unless the session of before is the only one.
func (w *web) untouched(what string) {
	w.Helper()
	if w.row(sidA) != lastingRow || w.row(sidB) != "" {
		w.Errorf("%s: the rows are %q and %q; want the one of before", what, w.row(sidA), w.row(sidB))
	}
}

func (w *web) request(ctx context.Context) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "https://example.com/", nil).WithContext(ctx)
	r.Header.Set("Cookie", cookieA)
	return r
}

// handler answers by handle.
func (w *web) handler(handle func(turn)) http.Handler {
	return w.m.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s, err := w.m.Session(r.Context())
		w.must("Session", err)
		handle(turn{w, rw, r, s, err})
	}))
}

func recovers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil {
				http.Error(w, "oops", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func TestAPanicLeavesTheSessionThatWasToBeReplaced(t *testing.T) {
	t.Parallel()
	for name, replace := range replacing {
		for _, text := range []string{"", "welcome"} {
			w := before(t)
			answer := httptest.NewRecorder()
			recovers(w.handler(func(t turn) {
				replace(t)
				fmt.Fprint(t.w, text)
				panic("oops")
			})).ServeHTTP(answer, w.request(t.Context()))
			if w.untouched(name); answer.Code != http.StatusInternalServerError || cookies(answer.Result()) != "" {
				t.Errorf("%s: the answer is %d with cookies %q", name, answer.Code, cookies(answer.Result()))
			}
			// What Save has done is done, so whoever recovers must be able to tell.
			answer = httptest.NewRecorder()
			recovers(w.handler(func(t turn) {
				replace(t)
				t.must("Save", t.s.Save(t.ctx()))
				panic("oops")
			})).ServeHTTP(answer, w.request(t.Context()))
			if got := cookies(answer.Result()); w.row(sidA) != "" || w.row(sidB) == "" || !strings.Contains(got, valueB) {
				t.Errorf("%s, saved: the rows are %q and %q, the cookies %q", name, w.row(sidA), w.row(sidB), got)
			}
		}
	}
}

func TestATimeoutAroundTheHandlerLeavesTheSessionThatWasToBeReplaced(t *testing.T) {
	t.Parallel()
	for name, replace := range replacing {
		synctest.Test(t, func(t *testing.T) {
			w := before(t)
			handler, over := w.handler(func(t turn) {
				replace(t)
				fmt.Fprint(t.w, "welcome")
				<-t.ctx().Done()
			}), make(chan struct{})
			answer := httptest.NewRecorder()
			http.TimeoutHandler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				defer close(over)
				handler.ServeHTTP(rw, r)
			}), time.Second, "too slow").ServeHTTP(answer, w.request(t.Context()))
			<-over
			if w.untouched(name); answer.Code != http.StatusServiceUnavailable || cookies(answer.Result()) != "" {
				t.Errorf("%s: the answer is %d with cookies %q", name, answer.Code, cookies(answer.Result()))
			}
		})
	}
}

func TestNoSessionIsReplacedForABrowserThatHasGone(t *testing.T) {
	t.Parallel()
	for name, replace := range replacing {
		w := before(t)
		ctx, cancel := context.WithCancel(t.Context())
		answer := httptest.NewRecorder()
		w.handler(func(t turn) {
			replace(t)
			cancel()
			t.is("Regenerate", t.s.Regenerate(t.ctx()), session.ErrTooLate)
		}).ServeHTTP(answer, w.request(ctx))
		if w.untouched(name); answer.Code != http.StatusServiceUnavailable || cookies(answer.Result()) != "" {
			t.Errorf("%s: the answer is %d with cookies %q", name, answer.Code, cookies(answer.Result()))
		}
	}
	for name, replace := range replacing {
		w := before(t)
		ctx, cancel := context.WithCancel(t.Context())
		w.handler(func(t turn) {
			replace(t)
			cancel()
			t.is("Save", t.s.Save(context.Background()), session.ErrTooLate)
		}).ServeHTTP(httptest.NewRecorder(), w.request(ctx))
		w.untouched(name + ", saved")
	}
	w := express(t, "fake", nodestore.ExpressOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	w.handler(func(t turn) {
		sets("views", 1)(t)
		cancel()
	}).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "https://example.com/", nil).WithContext(ctx))
	if w.row(sidB) != "" {
		t.Error("a session was made that nobody can have")
	}
}

// hijackable is a writer whose connection can be taken over.
type hijackable struct{ *httptest.ResponseRecorder }

var errTaken = errors.New("the connection was taken over")

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errTaken }

func TestAHijackReplacesNoSession(t *testing.T) {
	t.Parallel()
	for name, replace := range replacing {
		w := before(t)
		answer := hijackable{httptest.NewRecorder()}
		w.handler(func(t turn) {
			replace(t)
			_, _, err := http.NewResponseController(t.w).Hijack()
			t.is(name, err, session.ErrTooLate)
		}).ServeHTTP(answer, w.request(t.Context()))
		w.untouched(name)
		answer = hijackable{httptest.NewRecorder()}
		w.handler(func(t turn) {
			replace(t)
			t.must("Save", t.s.Save(t.ctx()))
			_, _, err := http.NewResponseController(t.w).Hijack()
			t.is("after Save", err, errTaken)
		}).ServeHTTP(answer, w.request(t.Context()))
		if got := strings.Join(answer.Header()["Set-Cookie"], "; "); !strings.Contains(got, valueB) {
			t.Errorf("%s, saved: the cookies in the header are %q", name, got)
		}
	}
}

func TestAnOldSessionThatCannotBeEndedStaysTheOnlyOne(t *testing.T) {
	t.Parallel()
	w := before(t)
	failed := false
	w.store.before("create", func() { // the destroy after it fails once
		w.store.fail("destroy", errLost)
		w.store.before("destroy", func() {
			if !failed {
				failed = true
				w.store.before("destroy", func() { w.store.fail("destroy", nil) })
			}
		})
	})
	res := w.ask(cookieA, replacing["regenerated"])
	if res.StatusCode != http.StatusServiceUnavailable || cookies(res) != "" || w.row(sidA) != lastingRow {
		t.Errorf("the answer is %d with cookies %q, the row %q", res.StatusCode, cookies(res), w.row(sidA))
	}
	if got := w.store.taken(); got != "get create destroy destroy" {
		t.Errorf("the store was called for %q", got)
	}
}

func TestCachesAreToldOfNodeSessions(t *testing.T) {
	t.Parallel()
	w := before(t)
	for what, handle := range map[string]func(turn){"private, max-age=60": reads, "no-store": replacing["regenerated"]} {
		res := w.ask(cookieA, func(t turn) {
			header := t.w.Header()
			header.Set("Cache-Control", "public, max-age=60")
			header.Set("CDN-Cache-Control", "max-age=60")
			header.Set("Surrogate-Control", "max-age=60")
			handle(t)
			_, _ = io.WriteString(t.w, "page")
		})
		if got := res.Header.Get("Cache-Control"); got != what || res.Header.Get("CDN-Cache-Control") != "" || res.Header.Get("Surrogate-Control") != "" {
			t.Errorf("the header is %v; want %s", res.Header, what)
		}
	}
}

func TestANodeCookieForAnotherDomainIsSaidAndMakesNoRow(t *testing.T) {
	t.Parallel()
	for _, domain := range []string{"example.org", "www.example.com"} {
		w := express(t, "fake", nodestore.ExpressOptions{Cookie: nodestore.Cookie{Domain: domain}})
		for range 100 {
			res := w.ask("", func(t turn) {
				sets("views", 1)(t)
				t.is("Save", t.s.Save(t.ctx()), session.ErrMisplaced)
			})
			if cookies(res) != "" {
				t.Errorf("the answer sets %q", cookies(res))
			}
		}
		if n := w.logs.FilterMessageSnippet("cookie").Len(); w.row(sidB) != "" || n != 1 {
			t.Errorf("the row is %q, the log was told %d times; want once", w.row(sidB), n)
		}
	}
}

func TestAWebsocketAtAProxyIsSecure(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{TrustProxy: true, Cookie: nodestore.Cookie{Secure: nodestore.SecureAlways}})
	r := httptest.NewRequest(http.MethodGet, "http://example.com/", nil)
	r.Header.Set("X-Forwarded-Proto", "wss")
	if got := cookies(w.serve(r, sets("views", 1))); !strings.Contains(got, valueB) {
		t.Errorf("the answer sets %q", got)
	}
}

func TestThoseOutsideSeeThePattern(t *testing.T) {
	t.Parallel()
	w := before(t)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /users/{id}", func(http.ResponseWriter, *http.Request) {})
	r := httptest.NewRequest(http.MethodPost, "https://example.com/users/7", nil)
	w.m.Handler(mux).ServeHTTP(httptest.NewRecorder(), r)
	if r.Pattern != "POST /users/{id}" || r.PathValue("id") != "7" {
		t.Errorf("the pattern is %q", r.Pattern)
	}
}
