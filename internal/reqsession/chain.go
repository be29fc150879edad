package reqsession

import (
	"context"
	"net/http"
)

// Part is the session of one manager in one request.
type Part interface {
	// Commit saves what is to be saved before the answer begins. An error fails
	// the request.
	Commit() error
	// Header puts into a header what caches must know, and returns the cookies
	// that the browser is to be sent, as lines of Set-Cookie.
	Header(http.Header) []string
	// Fail answers the request instead of its handler.
	Fail(http.ResponseWriter, error)
	// Close is called when the handler has returned and the answer has begun.
	Close()
}

// link is one of a request's sessions; managers may be nested.
type link struct {
	manager any
	cookie  string // its name
	part    Part
	outer   *link
	kept    []string // cookies of managers inside
}

type contextKey struct{}

func linkOf(ctx context.Context) *link {
	l, _ := ctx.Value(contextKey{}).(*link)
	return l
}

// Find returns the session of that manager.
func Find[P Part](ctx context.Context, manager any) (part P, found bool) {
	for l := linkOf(ctx); l != nil; l = l.outer {
		if l.manager == manager {
			part, found = l.part.(P)
			return part, found
		}
	}
	return part, false
}

// Innermost returns the innermost session of that type, and how many there are.
func Innermost[P Part](ctx context.Context) (part P, n int) {
	for l := linkOf(ctx); l != nil; l = l.outer {
		if p, ok := l.part.(P); ok {
			if n++; n == 1 {
				part = p
			}
		}
	}
	return part, n
}

// CookieTaken reports whether another manager of the request has a cookie of that
// name.
func CookieTaken(ctx context.Context, manager any, cookie string) bool {
	for l := linkOf(ctx); l != nil; l = l.outer {
		if l.manager != manager && l.cookie == cookie {
			return true
		}
	}
	return false
}

// Serve has next answer a request to which part belongs. bind is given the
// request that next gets: hooks shall find the session in its context too.
func Serve(w http.ResponseWriter, r *http.Request, manager any, cookie string, part Part, bind func(*http.Request), next http.Handler) {
	l := &link{manager: manager, cookie: cookie, part: part, outer: linkOf(r.Context())}
	r = r.WithContext(context.WithValue(r.Context(), contextKey{}, l))
	bind(r)
	respond(w, l, func(w http.ResponseWriter) { next.ServeHTTP(w, r) })
}

func (l *link) commit(header http.Header) error {
	err := l.part.Commit()
	if err == nil {
		l.writeHeader(header)
	}
	return err
}

// reject sends the error handler's answer. Cookies stay, those of managers inside
// too: they tell what has become of sessions.
func (l *link) reject(w http.ResponseWriter, err error) {
	header := w.Header()
	l.writeHeader(header)
	for _, line := range l.kept {
		header.Add("Set-Cookie", line)
	}
	l.part.Fail(w, err)
}

func (l *link) writeHeader(header http.Header) {
	lines := l.part.Header(header)
	if len(lines) > 0 {
		header.Set("Cache-Control", "no-store")
	}
	for _, line := range lines {
		header.Add("Set-Cookie", line)
		for outer := l.outer; outer != nil; outer = outer.outer {
			outer.kept = append(outer.kept, line)
		}
	}
}
