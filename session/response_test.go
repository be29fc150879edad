package session_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

// through has f's manager serve one request with a writer of the test's.
func (f *frail) through(w http.ResponseWriter, cookie string, handle func(turn)) {
	r := httptest.NewRequest(http.MethodGet, "https://localhost/", nil)
	r.Header.Set("Cookie", cookie)
	f.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := f.m.Session(r.Context())
		handle(turn{w, r, s, err})
	})).ServeHTTP(w, r)
}

func TestAFailureGivesBackTheHeaderThatOthersHadSet(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	cookie := f.begin("alice")
	f.fail(breakdowns[0], spystore.Save)
	answer := httptest.NewRecorder()
	answer.Header().Set("X-Request-Id", "42")
	answer.Header()["Vary"] = []string{"Accept-Encoding"}
	answer.Header().Add("Set-Cookie", "theme=dark")
	f.through(answer, cookie, func(t turn) {
		f.must("Set", t.s.Set("after", true))
		t.w.Header().Del("X-Request-Id")
		t.w.Header().Set("X-Handler", "was here")
		t.w.Header().Add("Vary", "X-Handler")
		t.w.Header().Add("Set-Cookie", "handler=cookie")
		t.w.Header()["Vary"][0] = "overwritten"
		_, err := t.w.Write([]byte("from the handler"))
		f.is("Write", err, errLost)
		t.w.Header().Set("X-Late", "too late")
	})
	got := answer.Result()
	if got.Header.Get("X-Request-Id") != "42" || got.Header.Get("X-Handler") != "" || got.Header.Get("X-Late") != "" ||
		!slices.Equal(got.Header["Vary"], []string{"Accept-Encoding", "Cookie"}) || !slices.Equal(got.Header["Set-Cookie"], []string{"theme=dark"}) {
		f.Errorf("the header is %v; want what was there before the handler, and Vary", got.Header)
	}
}

func TestASessionIsSavedOnceHoweverTheAnswerIsWritten(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{TouchInterval: -1})
	cookie := f.begin("alice")
	for _, change := range []bool{true, false} {
		saves, touches := f.store.Count(spystore.Save), f.store.Count(spystore.TouchLater)
		resp, _ := f.ask(cookie, func(t turn) {
			if change {
				f.must("Set", t.s.Set("after", true))
			}
			t.w.WriteHeader(http.StatusAccepted)
			for range 3 {
				_, err := io.WriteString(t.w, "more ")
				f.must("WriteString", err)
				f.must("Flush", http.NewResponseController(t.w).Flush())
				_, err = io.Copy(t.w, strings.NewReader("and more "))
				f.must("Copy", err)
			}
		})
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted || string(body) != strings.Repeat("more and more ", 3) {
			f.Errorf("the answer is %d %q", resp.StatusCode, body)
		}
		saved, touched := f.store.Count(spystore.Save)-saves, f.store.Count(spystore.TouchLater)-touches
		if change && (saved != 1 || touched != 0) || !change && (saved != 0 || touched != 1) {
			f.Errorf("%d saves and %d touches; want one of them", saved, touched)
		}
	}
}

// Writers of which none has what the others have.
type (
	bare     struct{ header http.Header }
	hijacker struct{ bare }
	pusher   struct{ bare }
	flusher  struct{ bare }
	reader   struct{ bare }
	deadline struct{ bare }
)

func (b bare) Header() http.Header         { return b.header }
func (b bare) Write(p []byte) (int, error) { return len(p), nil }
func (b bare) WriteHeader(int)             {}

var errReached = errors.New("the writer was reached")

func (hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errReached }
func (pusher) Push(string, *http.PushOptions) error           { return errReached }
func (flusher) FlushError() error                             { return errReached }
func (flusher) Flush()                                        {}
func (reader) ReadFrom(io.Reader) (int64, error)              { return 0, errReached }
func (deadline) SetWriteDeadline(time.Time) error             { return errReached }

func TestAHandlersWriterCanDoWhatTheServersCan(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	for name, w := range map[string]http.ResponseWriter{
		"bare": bare{http.Header{}}, "hijacker": hijacker{bare{http.Header{}}}, "pusher": pusher{bare{http.Header{}}},
		"flusher": flusher{bare{http.Header{}}}, "reader": reader{bare{http.Header{}}}, "deadline": deadline{bare{http.Header{}}},
	} {
		f.through(w, "", func(t turn) {
			got := map[string]bool{}
			_, got["hijacker"] = t.w.(http.Hijacker)
			_, got["pusher"] = t.w.(http.Pusher)
			_, got["flusher"] = t.w.(http.Flusher)
			_, got["reader"] = t.w.(io.ReaderFrom)
			for ability, has := range got {
				if has != (ability == name) {
					f.Errorf("%s: it is a %s: %v", name, ability, has)
				}
			}
			reached := func(ability string, err error) {
				f.Helper()
				want := http.ErrNotSupported
				if ability == name {
					f.is(name, err, errReached)
				} else if !errors.Is(err, want) {
					f.Errorf("%s used as a %s: %v; want %v", name, ability, err, want)
				}
			}
			control := http.NewResponseController(t.w)
			reached("deadline", control.SetWriteDeadline(time.Now()))
			reached("flusher", control.Flush())
			_, _, err := control.Hijack()
			reached("hijacker", err)
		})
	}
}

// Of middleware that answers for a slow handler, as http.TimeoutHandler does.
func TestAHandlerThatOutlivesItsRequestIsRefused(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	cookie := f.begin("alice")
	loaded, over, late := make(chan struct{}), make(chan struct{}), make(chan struct{})
	slow := func(r *http.Request) {
		defer close(late)
		s, err := f.m.Session(r.Context())
		f.must("Session", err)
		close(loaded)
		<-over
		f.is("Set", s.Set("after", true), session.ErrTooLate)
		f.is("Save", s.Save(r.Context()), session.ErrTooLate)
		f.is("Login", s.Login(r.Context(), "bob", session.Login{}), session.ErrTooLate)
		if s.User() != "alice" {
			f.Errorf("the user is %q", s.User())
		}
	}
	r := httptest.NewRequest(http.MethodGet, "https://localhost/", nil)
	r.Header.Set("Cookie", cookie)
	answer := httptest.NewRecorder()
	f.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		go slow(r)
		<-loaded
		http.Error(w, "too slow", http.StatusServiceUnavailable)
	})).ServeHTTP(answer, r)
	close(over)
	<-late
	if answer.Code != http.StatusServiceUnavailable || answer.Body.String() != "too slow\n" {
		f.Errorf("the answer is %d %q", answer.Code, answer.Body)
	}
	f.has(cookie, "alice", "before")
}

func TestAnswersWithoutABodyBringTheCookie(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	for _, status := range []int{http.StatusNoContent, http.StatusNotModified, http.StatusSeeOther, http.StatusSwitchingProtocols} {
		resp, cookie := f.ask("", func(t turn) {
			f.must("Set", t.s.Set("key", true))
			t.w.WriteHeader(status)
		})
		if resp.StatusCode != status || cookie == "" {
			f.Errorf("the answer is %d with %d cookies; want %d with one", resp.StatusCode, len(resp.Cookies()), status)
		}
		f.has(cookie, "", "key")
	}
}

func TestARequestIsSavedWhenItsContextHasEnded(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{})
	cookie := f.begin("alice")
	r := httptest.NewRequest(http.MethodGet, "https://localhost/", nil)
	r.Header.Set("Cookie", cookie)
	ctx, cancel := context.WithCancel(f.Context())
	f.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s, err := f.m.Session(r.Context())
		f.must("Session", err)
		f.must("Set", s.Set("after", true))
		cancel()
	})).ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
	f.has(cookie, "alice", "after", "before")
}

func TestAPanicOfTheErrorHandlerPassesThrough(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { panic(fmt.Sprint("oops: ", err)) }})
	cookie := f.begin("alice")
	f.fail(breakdowns[0], spystore.Get)
	defer func() {
		if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "oops: ") || !strings.Contains(got, errLost.Error()) {
			f.Errorf("the panic is %s", got)
		}
	}()
	f.ask(cookie, func(turn) {})
}
