// Package respond has what a request changed saved before the first byte of its
// answer, and sees to it that nothing of its handler's is sent if that fails.
package respond

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/felixge/httpsnoop"
)

// Request is one whose handler is given another writer.
type Request interface {
	// Commit is called once, before anything is sent. It may add to the header.
	Commit(http.Header) error
	// Reject answers instead of the handler if Commit failed. The header is
	// what it was before the handler.
	Reject(http.ResponseWriter, error)
	// Close is called when the handler has returned and the answer has begun.
	// Neither this nor anything else is called if the handler panics.
	Close()
}

// Serve calls the handler of a request.
func Serve(w http.ResponseWriter, r Request, handle func(http.ResponseWriter)) {
	a := &answer{r: r, w: reachable(w)}
	if header := w.Header(); len(header) > 0 {
		a.before = header.Clone()
	}
	handle(a.wrapped())
	_ = a.begin() // reject has answered
	r.Close()
}

type answer struct {
	r      Request
	w      http.ResponseWriter
	before http.Header // what others had set in the header
	begun  bool
	failed error
}

// begin is called before anything is sent; only its first call does something.
func (a *answer) begin() error {
	if a.begun {
		return a.failed
	}
	a.begun = true
	a.failed = a.r.Commit(a.w.Header())
	if a.failed != nil {
		a.reject()
	}
	return a.failed
}

func (a *answer) reject() {
	header := a.w.Header()
	clear(header)
	for name, values := range a.before {
		header[name] = values
	}
	a.r.Reject(a.w, a.failed)
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
