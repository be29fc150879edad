package session

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/felixge/httpsnoop"
)

// answer has the session saved before the first byte, and sees to it that
// nothing of the handler's is sent if that fails.
type answer struct {
	s      *Session
	w      http.ResponseWriter
	before http.Header // what others had set in the header
	begun  bool
	failed error
}

func newAnswer(w http.ResponseWriter, s *Session) *answer {
	a := &answer{s: s, w: reachable(w)}
	if header := w.Header(); len(header) > 0 {
		a.before = header.Clone()
	}
	return a
}

// begin is called before anything is sent; only its first call does something.
func (a *answer) begin() error {
	if a.begun {
		return a.failed
	}
	a.begun = true
	a.failed = a.s.commit(a.w.Header())
	if a.failed != nil {
		a.reject()
	}
	return a.failed
}

// reject sends the error handler's answer. Cookies stay: they tell what has
// become of sessions.
func (a *answer) reject() {
	header := a.w.Header()
	clear(header)
	for name, values := range a.before {
		header[name] = values
	}
	a.s.writeHeader(header)
	for _, line := range a.s.kept {
		header.Add("Set-Cookie", line)
	}
	a.s.m.fail(a.w, a.s.r, a.failed)
}

// finish is called when the handler has returned.
func (a *answer) finish() {
	_ = a.begin() // reject has answered
	a.s.close()
}

func (a *answer) wrapped() http.ResponseWriter {
	return httpsnoop.Wrap(a.w, httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(code int) {
				// 1xx says that the answer is still to come; 101 ends HTTP.
				informs := code < http.StatusOK && code != http.StatusSwitchingProtocols
				if informs && !a.begun || !informs && a.begin() == nil {
					next(code)
				}
			}
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(b []byte) (int, error) {
				if err := a.begin(); err != nil {
					return 0, err
				}
				return next(b)
			}
		},
		ReadFrom: func(next httpsnoop.ReadFromFunc) httpsnoop.ReadFromFunc {
			return func(src io.Reader) (int64, error) {
				if err := a.begin(); err != nil {
					return 0, err
				}
				return next(src)
			}
		},
		Flush: func(next httpsnoop.FlushFunc) httpsnoop.FlushFunc {
			return func() {
				if a.begin() == nil {
					next()
				}
			}
		},
		FlushError: func(next httpsnoop.FlushErrorFunc) httpsnoop.FlushErrorFunc {
			return func() error {
				if err := a.begin(); err != nil {
					return err
				}
				return next()
			}
		},
		Hijack: func(next httpsnoop.HijackFunc) httpsnoop.HijackFunc {
			return func() (net.Conn, *bufio.ReadWriter, error) {
				if err := a.begin(); err != nil {
					return nil, nil, err
				}
				return next()
			}
		},
	})
}

// reachable returns a writer on which Flush and Hijack can be seen. A writer
// that offers them by Unwrap only would have http.ResponseController go past
// our hooks.
func reachable(w http.ResponseWriter) http.ResponseWriter {
	if _, ok := w.(interface{ Unwrap() http.ResponseWriter }); !ok {
		return w
	}
	_, flushes := w.(http.Flusher)
	_, hijacks := w.(http.Hijacker)
	if flushes && hijacks {
		return w
	}
	return unwrapping{w, http.NewResponseController(w)}
}

// unwrapping does what a ResponseController does, as methods.
type unwrapping struct {
	http.ResponseWriter
	inner *http.ResponseController
}

func (u unwrapping) Flush()            { _ = u.inner.Flush() } // it has no other way to fail
func (u unwrapping) FlushError() error { return u.inner.Flush() }

func (u unwrapping) Hijack() (net.Conn, *bufio.ReadWriter, error) { return u.inner.Hijack() }

func (u unwrapping) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// commit ends the time in which the browser can be given a cookie.
func (s *Session) commit(header http.Header) error {
	err := s.do(s.r.Context(), func() error {
		defer func() { s.sealed = true }()
		if !s.loaded || s.refused || s.failure != nil {
			return s.failure
		}
		if err := s.store(s.lasting); err != nil && !s.dead {
			s.failure = err
		}
		return s.failure // if it ended meanwhile the events tell; the answer may well be right
	})
	if err == nil {
		s.writeHeader(header)
	}
	return err
}

// writeHeader puts the cookie into a header, and what caches must know.
func (s *Session) writeHeader(header http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded && !varies(header["Vary"]) {
		header.Add("Vary", "Cookie")
	}
	if s.line != "" {
		header.Add("Set-Cookie", s.line)
		header.Set("Cache-Control", "no-store")
		for outer := s.outer; outer != nil; outer = outer.outer {
			outer.kept = append(outer.kept, s.line)
		}
	}
	if s.clearSite {
		header.Set("Clear-Site-Data", `"cache", "cookies", "storage"`)
	}
}

// varies reports whether Vary names Cookie already.
func varies(lists []string) bool {
	for name := range strings.SplitSeq(strings.Join(lists, ","), ",") {
		if strings.EqualFold(strings.TrimSpace(name), "Cookie") {
			return true
		}
	}
	return false
}
