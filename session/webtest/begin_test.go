package webtest

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"

	"github.com/sojourn-go/sojourn/session"
)

// Of the first byte of an answer: what comes before it and what is taken for
// it.

func beginningCases() []webCase {
	return []webCase{
		{name: "a flush is seen through writers that only unwrap", protocols: both, run: unwraps},
		{name: "early hints leave the cookie to the answer", protocols: both, run: hints},
		{name: "each way to begin an answer saves the session first", protocols: both, run: beginnings},
	}
}

// onlyUnwraps is a middleware's writer that offers the rest by Unwrap.
type onlyUnwraps struct{ http.ResponseWriter }

func (o onlyUnwraps) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func unwraps(w *web) {
	for _, outside := range []bool{true, false} {
		m := w.manage(0, session.Options{})
		n := &node{m, w.listen(func(pages http.Handler) http.Handler {
			through := func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { next.ServeHTTP(onlyUnwraps{rw}, r) })
			}
			if outside {
				return through(m.m.Handler(pages))
			}
			return m.m.Handler(through(pages))
		})}
		b, flushed := w.browser(), make(chan struct{})
		p := b.begin(n, func(v *visit) {
			v.set("before", true)
			flush(v)
			close(flushed)
			if v.s.Key().IsZero() {
				v.Error("nothing is stored after Flush")
			}
		}, func(v *visit) {
			v.set("after", true)
			v.say("done")
		})
		<-flushed
		if r := p.finish(); r.body != "done" || len(r.set()) != 1 {
			w.Errorf("the answer is %q with %d cookies", r.body, len(r.set()))
		}
		if found := b.look(n); !found.has("before") || !found.has("after") {
			w.Errorf("the browser has %+v", found)
		}
	}
}

func hints(w *web) {
	n := w.serve(0, session.Options{})
	b := w.browser()
	var early []http.Header
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints {
			early = append(early, http.Header(header))
		}
		return nil
	}}
	r := b.request(n.server, n.page(func(v *visit) {
		v.rw.Header().Set("Link", "</style.css>; rel=preload")
		v.rw.WriteHeader(http.StatusEarlyHints)
		v.set("after", true)
		v.rw.WriteHeader(http.StatusEarlyHints)
		if n.written() != 0 {
			v.Error("early hints have saved the session")
		}
		v.rw.WriteHeader(http.StatusCreated)
	}), func(r *http.Request) { *r = *r.WithContext(httptrace.WithClientTrace(r.Context(), trace)) })
	if r.status != http.StatusCreated || len(r.set()) != 1 || b.cookie(n) == "" {
		w.Errorf("the answer is %d with %d cookies; want 201 with one", r.status, len(r.set()))
	}
	if len(early) != 2 {
		w.Errorf("%d early hints; want 2", len(early))
	}
	for _, header := range early {
		if len(header["Set-Cookie"]) > 0 {
			w.Error("early hints set the cookie")
		}
	}
	b.silent(n, func(v *visit) { want(v, "after", true) })
}

func beginnings(w *web) {
	n := w.serve(0, session.Options{})
	for name, begin := range map[string]func(rw http.ResponseWriter){
		"WriteHeader": func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusOK) },
		"Write":       func(rw http.ResponseWriter) { _, _ = rw.Write([]byte("text")) },
		"WriteString": func(rw http.ResponseWriter) { _, _ = rw.(io.StringWriter).WriteString("text") },
		"Flush":       func(rw http.ResponseWriter) { rw.(http.Flusher).Flush() },
		"an empty Write": func(rw http.ResponseWriter) {
			_, _ = rw.Write(nil)
		},
		"Copy": func(rw http.ResponseWriter) { _, _ = io.Copy(rw, strings.NewReader("text")) },
		"FlushError": func(rw http.ResponseWriter) {
			_ = http.NewResponseController(rw).Flush()
		},
	} {
		b := w.browser()
		r := b.visit(n, func(v *visit) {
			v.set("stored", true)
			begin(v.rw)
			if v.s.Key().IsZero() {
				v.Errorf("%s has not saved the session", name)
			}
		})
		if len(r.set()) != 1 || !b.look(n).has("stored") {
			w.Errorf("%s: %d cookies; want one", name, len(r.set()))
		}
	}
}
