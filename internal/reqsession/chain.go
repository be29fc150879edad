package reqsession

import (
	"context"
	"net/http"
	"sync"
)

// Part is the session of one manager in one request.
type Part interface {
	// Commit saves what is to be saved before the answer begins. An error fails
	// the request.
	Commit(Reach) error
	// Replaces reports whether Commit will replace a session, or its ID, by one
	// that the browser does not know yet.
	Replaces() bool
	// Header puts into a header what belongs there, and returns the cookies that
	// the browser is to be sent, as lines of Set-Cookie. It is about what has been
	// done, with or without Commit.
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
	given   bool // by With
	outer   *link
	kept    []string // cookies of managers inside
}

type contextKey struct{}

func linkOf(ctx context.Context) *link {
	l, _ := ctx.Value(contextKey{}).(*link)
	return l
}

// With returns a context in which Find and the like find a session that no handler
// has.
func With(ctx context.Context, manager any, part Part) context.Context {
	return context.WithValue(ctx, contextKey{}, &link{manager: manager, part: part, given: true, outer: linkOf(ctx)})
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

// Choose returns, of the sessions of that type, one that With has given: the
// innermost. Else it is the outermost of those that are preferred or, if none is, of
// all.
func Choose[P Part](ctx context.Context, preferred func(P) bool) (part P, found bool) {
	chosen := false
	for l := linkOf(ctx); l != nil; l = l.outer {
		p, ok := l.part.(P)
		if !ok {
			continue
		}
		if l.given {
			return p, true
		}
		if is := preferred(p); is || !chosen {
			part, found, chosen = p, true, is
		}
	}
	return part, found
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
	inner := r.WithContext(context.WithValue(r.Context(), contextKey{}, l))
	bind(inner)
	defer handBack(r, inner)
	respond(w, inner.Context(), l, func(w http.ResponseWriter) { next.ServeHTTP(w, inner) })
}

// handBack has those outside see what next has made of its request, the pattern
// and the form for example, as if they had the same. It removes the files of a
// form that came with the copy: the server does so for its own request only, and
// not after a panic.
func handBack(outer, inner *http.Request) {
	before := outer.MultipartForm
	*outer = *inner.WithContext(outer.Context())
	if form := inner.MultipartForm; form != nil && form != before {
		_ = form.RemoveAll() // as the server does
	}
}

func (l *link) commit(header http.Header, reach Reach) error {
	err := l.part.Commit(reach)
	if err == nil {
		l.writeHeader(header)
	}
	return err
}

// reject sends the error handler's answer. Cookies stay, those of managers inside
// too: they tell what has become of sessions.
func (l *link) reject(w http.ResponseWriter, err error) {
	l.writeHeader(w.Header(), l.kept...)
	// The error handler may show a page that is cached where others show it.
	guard := sync.OnceFunc(func() {
		header := w.Header()
		if l.part.Header(header); len(header["Set-Cookie"]) > 0 {
			forbidStorage(header)
		}
		spareCookies(header)
	})
	l.part.Fail(beforeFirstByte(w, guard), err)
	guard()
}

// writeHeader adds what has become of the session to a header, and cookies of
// managers inside.
func (l *link) writeHeader(header http.Header, inside ...string) {
	lines := l.part.Header(header)
	for outer := l.outer; outer != nil; outer = outer.outer {
		outer.kept = append(outer.kept, lines...)
	}
	for _, line := range append(inside, lines...) {
		forbidStorage(header)
		header.Add("Set-Cookie", line)
	}
	spareCookies(header)
}
