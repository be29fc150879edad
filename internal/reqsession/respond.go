package reqsession

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/felixge/httpsnoop"
)

// respond calls the handler of a request with a writer that commits before the
// first byte. If that fails, nothing of what the handler writes is sent. Nothing
// is committed or closed if the handler panics.
func respond(w http.ResponseWriter, l *link, handle func(http.ResponseWriter)) {
	a := &response{l: l, w: reachable(w)}
	if header := w.Header(); len(header) > 0 {
		a.before = header.Clone()
	}
	handle(a.wrapped())
	_ = a.begin() // reject has answered
	l.part.Close()
}

type response struct {
	l      *link
	w      http.ResponseWriter
	before http.Header // what others had set in the header
	begun  bool
	failed error
}

// begin is called before anything is sent; only its first call does something.
func (a *response) begin() error {
	if a.begun {
		return a.failed
	}
	a.begun = true
	a.failed = a.l.commit(a.w.Header())
	if a.failed != nil {
		a.reject()
	}
	return a.failed
}

func (a *response) reject() {
	header := a.w.Header()
	clear(header)
	for name, values := range a.before {
		header[name] = values
	}
	a.l.reject(a.w, a.failed)
}

func (a *response) wrapped() http.ResponseWriter {
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

// VaryByCookie tells caches that the answer depends on the request's cookies.
func VaryByCookie(header http.Header) {
	if !varies(header["Vary"]) {
		header.Add("Vary", "Cookie")
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
