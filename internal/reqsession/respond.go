package reqsession

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"

	"github.com/felixge/httpsnoop"
)

// respond calls the handler of a request with a writer that commits before the
// first byte. If that fails, nothing of what the handler writes is sent. Nothing
// is committed or closed if the handler panics: then the header gets what has been
// done before, for the answer of whoever recovers.
func respond(w http.ResponseWriter, ctx context.Context, l *link, handle func(http.ResponseWriter)) {
	a := &response{ctx: ctx, l: l, w: reachable(w)}
	if header := w.Header(); len(header) > 0 {
		a.before = header.Clone()
	}
	returned := false
	defer func() {
		if !returned {
			a.abandon()
		}
	}()
	handle(a.wrapped())
	_ = a.begin(Sent) // reject has answered
	l.part.Close()
	returned = true
}

type response struct {
	ctx    context.Context
	l      *link
	w      http.ResponseWriter
	before http.Header // what others had set in the header
	held   heldBack
	begun  bool
	failed error
}

// begin is called before anything is sent; only its first call does something.
func (a *response) begin(reach Reach) error {
	if a.begun {
		return a.failed
	}
	a.begun = true
	late := a.held.restore(a.w.Header())
	committed := false
	defer func() {
		if !committed { // a hook has panicked, but what has been done is done
			a.l.writeHeader(a.w.Header())
		}
	}()
	a.failed = a.l.commit(a.w.Header(), ReachOf(a.ctx, reach))
	committed = true
	if a.failed != nil {
		a.reject()
		return a.failed
	}
	a.held.send(a.w, late)
	return nil
}

func (a *response) reject() {
	header := a.w.Header()
	clear(header)
	for name, values := range a.before {
		header[name] = values
	}
	a.l.reject(a.w, a.failed)
}

// abandon is for a handler that has panicked.
func (a *response) abandon() {
	if !a.begun {
		a.begun, a.failed = true, http.ErrAbortHandler // for goroutines that it has left
		a.l.writeHeader(a.w.Header())
	}
}

// holds reports whether so many bytes of the handler's are kept until it has
// returned.
func (a *response) holds(n int) bool {
	return !a.begun && a.held.fits(n) && (a.held.status != 0 || a.l.part.Replaces())
}

func (a *response) wrapped() http.ResponseWriter {
	return httpsnoop.Wrap(a.w, httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(code int) {
				// 1xx says that the answer is still to come; 101 ends HTTP.
				informs := code < http.StatusOK && code != http.StatusSwitchingProtocols
				switch {
				case informs:
					if !a.begun {
						next(code)
					}
				case code >= http.StatusOK && a.holds(0):
					a.held.writeHeader(a.w.Header(), code)
				case a.begin(Sent) == nil:
					next(code)
				}
			}
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(b []byte) (int, error) {
				if a.holds(len(b)) {
					a.held.writeHeader(a.w.Header(), http.StatusOK)
					return a.held.body.Write(b)
				}
				if err := a.begin(Sent); err != nil {
					return 0, err
				}
				return next(b)
			}
		},
		ReadFrom: func(next httpsnoop.ReadFromFunc) httpsnoop.ReadFromFunc {
			return func(src io.Reader) (int64, error) {
				if err := a.begin(Sent); err != nil {
					return 0, err
				}
				return next(src)
			}
		},
		Flush: func(next httpsnoop.FlushFunc) httpsnoop.FlushFunc {
			return func() {
				if a.begin(Sent) == nil {
					next()
				}
			}
		},
		FlushError: func(next httpsnoop.FlushErrorFunc) httpsnoop.FlushErrorFunc {
			return func() error {
				if err := a.begin(Sent); err != nil {
					return err
				}
				return next()
			}
		},
		Hijack: func(next httpsnoop.HijackFunc) httpsnoop.HijackFunc {
			return func() (net.Conn, *bufio.ReadWriter, error) {
				reach := Handed
				if a.held.status != 0 {
					reach = Sent
				}
				if err := a.begin(reach); err != nil {
					return nil, nil, err
				}
				return next()
			}
		},
	})
}

// beforeFirstByte has guard called before anything is sent, and each time again.
func beforeFirstByte(w http.ResponseWriter, guard func()) http.ResponseWriter {
	return httpsnoop.Wrap(w, httpsnoop.Hooks{
		WriteHeader: func(next httpsnoop.WriteHeaderFunc) httpsnoop.WriteHeaderFunc {
			return func(code int) { guard(); next(code) }
		},
		Write: func(next httpsnoop.WriteFunc) httpsnoop.WriteFunc {
			return func(b []byte) (int, error) { guard(); return next(b) }
		},
		ReadFrom: func(next httpsnoop.ReadFromFunc) httpsnoop.ReadFromFunc {
			return func(src io.Reader) (int64, error) { guard(); return next(src) }
		},
		Flush: func(next httpsnoop.FlushFunc) httpsnoop.FlushFunc {
			return func() { guard(); next() }
		},
		FlushError: func(next httpsnoop.FlushErrorFunc) httpsnoop.FlushErrorFunc {
			return func() error { guard(); return next() }
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
