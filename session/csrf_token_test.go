package session_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sojourn-go/sojourn/session"
)

// tab is a browser that keeps all cookies.
type tab struct {
	*site
	cookies map[string]string
}

func (p *site) tab() *tab { return &tab{p, map[string]string{}} }

// copied is a browser with the cookies that this one has now.
func (b *tab) copied() *tab {
	other := b.site.tab()
	for name, value := range b.cookies {
		other.cookies[name] = value
	}
	return other
}

// on is the same browser, whose request goes to another node.
func (b *tab) on(p *site) *tab { return &tab{p, b.cookies} }

// send has do answer a request, and returns the lines of Set-Cookie.
func (b *tab) send(r *http.Request, do func(r *http.Request, s *session.Session)) *http.Response {
	b.t.Helper()
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.manager.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if s, err := b.manager.Session(r.Context()); err == nil {
			do(r, s)
		}
	})).ServeHTTP(w, r)
	answer := w.Result()
	for _, c := range answer.Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return answer
}

func (b *tab) visit(do page) *http.Response {
	b.t.Helper()
	return b.send(get(""), func(r *http.Request, s *session.Session) { do(r.Context(), s) })
}

// token is one that a page shows.
func (b *tab) token() (token string) {
	b.t.Helper()
	b.visit(func(_ context.Context, s *session.Session) { token = tokenOf(b.t, s) })
	return token
}

func tokenOf(t testing.TB, s *session.Session) string {
	t.Helper()
	token, err := s.CSRFToken()
	if err != nil {
		t.Errorf("CSRFToken: %v", err)
	}
	return token
}

// check is what CheckCSRF says of a request with that token.
func (b *tab) check(token string) (err error) {
	b.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "https://www.example.com/app", nil)
	r.Header.Set(session.CSRFHeader, token)
	b.send(r, func(r *http.Request, s *session.Session) { err = s.CheckCSRF(r) })
	return err
}

func (b *tab) accepts(what, token string) {
	b.t.Helper()
	if err := b.check(token); err != nil {
		b.t.Errorf("%s: %v", what, err)
	}
}

func (b *tab) refuses(what, token string) {
	b.t.Helper()
	if err := b.check(token); !errors.Is(err, session.ErrCSRF) {
		b.t.Errorf("%s: %v; want ErrCSRF", what, err)
	}
}

func renewing(t testing.TB, grace time.Duration) page {
	return func(ctx context.Context, s *session.Session) {
		if err := s.Renew(ctx, grace); err != nil {
			t.Errorf("Renew: %v", err)
		}
	}
}

func TestACSRFTokenIsGoodForItsSessionOnly(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	node := newSiteOn(t, p.clock, p.store, session.Options{})
	ann, bob, nobody := p.tab(), p.tab(), p.tab()
	ann.visit(loggingIn(t, "ann", session.Login{}))
	bob.visit(loggingIn(t, "bob", session.Login{}))
	token, again := ann.token(), ann.token()
	ann.accepts("its session", token)
	ann.accepts("once more", token)
	ann.accepts("the other tab", again)
	ann.on(node).accepts("another node", token)
	if other := ann.on(node).token(); ann.check(other) != nil {
		t.Error("a token of another node is refused")
	}
	bob.refuses("another session", token)
	nobody.refuses("no session", token)
	visitors := nobody.token()
	ann.refuses("a visitor's", visitors)
	letter := "A"
	if token[38:39] == letter {
		letter = "B"
	}
	for what, bad := range map[string]string{
		"another letter near the end": token[:38] + letter + token[39:],
		"empty":                       "", "short": token[1:], "long": token + "A", "another last letter": token[:42] + "-", "padded": token + "=", "no base64": strings.Repeat("*", 43),
		"another first letter": string(token[0]^1) + token[1:], "all zero": strings.Repeat("A", 43), "the cookie": ann.cookies["__Host-session"],
		"with a line end": token[:20] + "\n" + token[20:], "half of each": token[:21] + again[21:],
	} {
		if bad != token {
			ann.refuses(what, bad)
		}
	}
	if calls := p.store.taken(); slices.Contains(calls, "Save") || slices.Contains(calls, "Renew") {
		t.Errorf("tokens are written to the store: %v", calls)
	}
}

func TestCSRFTokensAreWrittenAnotherWayEachTime(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.tab()
	b.visit(loggingIn(t, "ann", session.Login{}))
	seen := map[string]bool{}
	b.visit(func(_ context.Context, s *session.Session) {
		for range 100 {
			token := tokenOf(t, s)
			for i := range len(token) - 6 { // what compression would find again
				if part := token[i : i+6]; seen[part] {
					t.Fatalf("%s is in two tokens", part)
				} else {
					seen[part] = true
				}
			}
		}
	})
}

func TestCSRFTokensOutliveOnlyRenewalsWithAGracePeriod(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		policy session.Policy
		do     func(t testing.TB) page
		stays  bool
	}{
		"nothing":                          {session.Policy{}, func(testing.TB) page { return func(context.Context, *session.Session) {} }, true},
		"values":                           {session.Policy{}, func(t testing.TB) page { return setting(t, "k", 1) }, true},
		"an ID that is due":                {session.Policy{RenewAfter: 1}, func(testing.TB) page { return func(context.Context, *session.Session) {} }, true},
		"an ID that is due, without grace": {session.Policy{RenewAfter: 1, RenewGrace: -1}, func(testing.TB) page { return func(context.Context, *session.Session) {} }, true},
		"a renewal with a grace period":    {session.Policy{}, func(t testing.TB) page { return renewing(t, minute) }, true},
		"a renewal":                        {session.Policy{}, func(t testing.TB) page { return renewing(t, 0) }, false},
		"a login":                          {session.Policy{}, func(t testing.TB) page { return loggingIn(t, "ann", session.Login{}) }, false},
		"a login as another":               {session.Policy{}, func(t testing.TB) page { return loggingIn(t, "bob", session.Login{}) }, false},
		"a logout": {session.Policy{}, func(t testing.TB) page {
			return func(ctx context.Context, s *session.Session) {
				if err := s.Logout(ctx); err != nil {
					t.Error(err)
				}
			}
		}, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := newSite(t, session.Options{Policy: test.policy})
			b := p.tab()
			b.visit(loggingIn(t, "ann", session.Login{}))
			before := b.token()
			for range 5 {
				var within, after string
				p.clock.advance(time.Second)
				b.visit(func(ctx context.Context, s *session.Session) {
					within = tokenOf(t, s)
					test.do(t)(ctx, s)
					if what != "a logout" {
						after = tokenOf(t, s)
					}
				})
				if what != "a logout" {
					b.accepts("what the answer shows", after)
				}
				if test.stays {
					b.accepts("a page from before", before)
					b.accepts("what the answer shows first", within)
				} else {
					b.refuses("a page from before", before)
					b.refuses("what the answer shows first", within)
				}
				if b.cookies["__Host-session"] == "" {
					return
				}
			}
		})
	}
}

// A request that is under way, with the ID of before, has a form of before and shows
// one for after.
func TestCSRFTokensOfRequestsInAGracePeriod(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.tab()
	b.visit(loggingIn(t, "ann", session.Login{}))
	token := b.token()
	var olds []*tab
	for range 4 {
		olds = append(olds, b.copied())
		b.visit(renewing(t, session.MaxGrace))
	}
	for i, old := range olds[2:] { // those of before lead to no token, and ask for another page
		old.accepts(fmt.Sprintf("the form of before, by ID %d", i+2), token)
		b.accepts("a form that the old ID shows", old.copied().token())
	}
	olds[0].visit(func(_ context.Context, s *session.Session) {
		if token, err := s.CSRFToken(); !errors.Is(err, session.ErrCSRF) || token != "" {
			t.Errorf("by an ID of four before: %q, %v; want ErrCSRF", token, err)
		}
	})
	olds[0].refuses("by an ID of four before", token)
	b.accepts("by the present one", token)
}

func TestATokenOfAFailedLoginIsNoneOfTheSession(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.tab()
	b.visit(setting(t, "k", 1))
	before := b.token()
	var token string
	b.visit(func(ctx context.Context, s *session.Session) {
		loggingIn(t, "ann", session.Login{})(ctx, s)
		token = tokenOf(t, s)
		p.store.fail("Renew", errors.New("no database"))
		if err := s.Save(ctx); err == nil {
			t.Error("the save succeeds")
		}
		p.store.fail("Renew", nil)
		b.accepts("a token from before", tokenOf(t, s))
		if err := s.Reload(ctx); err != nil {
			t.Error(err)
		}
	})
	b.refuses("the login's", token)
	b.accepts("a page of before", before)
}

func TestAVisitorsTokenCostsNoRow(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.tab()
	answer := b.visit(func(_ context.Context, s *session.Session) { tokenOf(t, s) })
	line := strings.Join(answer.Header["Set-Cookie"], "\n")
	value := b.cookies["__Host-session-csrf"]
	if want := "__Host-session-csrf=" + value + "; Path=/; HttpOnly; Secure; SameSite=Lax"; line != want || len(value) != 22 {
		t.Errorf("Set-Cookie: %s; want %s", line, want)
	}
	if got := answer.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control: %s", got)
	}
	token := b.token()
	b.accepts("the visitor's form", token)
	if b.cookies["__Host-session-csrf"] != value {
		t.Error("the visitor gets another cookie")
	}
	p.tab().refuses("no cookie", token)
	other := p.tab()
	other.token()
	other.refuses("another visitor", token)
	p.want()
	for _, bad := range []string{"short", "AA"} { // one is no base64, the other a byte
		other.cookies["__Host-session-csrf"] = bad
		if other.token(); len(other.cookies["__Host-session-csrf"]) != 22 {
			t.Errorf("a cookie that is none is kept: %s", bad)
		}
	}

	// The form stays good when a session begins, and not when somebody logs in.
	b.visit(setting(t, "k", 1))
	p.want("Create")
	b.accepts("a form of before the session", token)
	later := b.token()
	delete(b.cookies, "__Host-session-csrf")
	b.accepts("a form of before the session, without its cookie", token)
	b.cookies["__Host-session-csrf"] = strings.Repeat("A", 22)
	b.accepts("with a cookie of somebody else's making", later)
	planted := p.tab()
	planted.cookies["__Host-session-csrf"] = strings.Repeat("A", 22)
	b.refuses("a token for that cookie", planted.token())
	b.visit(loggingIn(t, "ann", session.Login{}))
	b.refuses("after the login", token)
	b.refuses("after the login", later)
}

func TestASessionThatBeginsWithAVisitorsFormTakesItsToken(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.tab()
	var token, later string
	b.visit(func(ctx context.Context, s *session.Session) {
		token = tokenOf(t, s)
		setting(t, "k", 1)(ctx, s)
		if err := s.Save(ctx); err != nil {
			t.Error(err)
		}
		later = tokenOf(t, s)
	})
	b.accepts("the form", token)
	b.accepts("a form of after the save", later)
}

// Whoever reads the database can make no token.
func TestTheStoreHoldsNoCSRFToken(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Policy: session.Policy{RenewAfter: 1}})
	b := p.tab()
	b.token()
	b.visit(setting(t, "k", 1)) // takes over the visitor's
	for _, do := range []page{func(context.Context, *session.Session) {}, loggingIn(t, "ann", session.Login{}), renewing(t, 0), renewing(t, minute)} {
		p.clock.advance(time.Second)
		b.visit(func(ctx context.Context, s *session.Session) { do(ctx, s); tokenOf(t, s) })
		p.clock.advance(time.Second)
		token := b.token()
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			t.Fatal(err)
		}
		root := make([]byte, len(raw)/2)
		for i := range root {
			root[i] = raw[i] ^ raw[len(root)+i]
		}
		id, err := session.ParseID(b.cookies["__Host-session"])
		if err != nil {
			t.Fatal(err)
		}
		rec, err := p.store.Store.Get(t.Context(), id.Key())
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := bytes.Cut(rec.Data, []byte{'\n'})
		held := append([]byte{}, rec.Data...)
		for field := range bytes.FieldsSeq(line) {
			if raw, err := base64.RawURLEncoding.DecodeString(string(field)); err == nil {
				held = append(held, raw...)
			}
		}
		for _, form := range [][]byte{root, []byte(hex.EncodeToString(root)), []byte(base64.RawURLEncoding.EncodeToString(root))} {
			if bytes.Contains(held, form) {
				t.Errorf("the record has what tokens are made of: %s", line)
			}
		}
	}
}

// body makes a request that changes something.
func posting(kind, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "https://www.example.com/", strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	return r
}

func TestWhereATokenMayBe(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.tab()
	b.visit(loggingIn(t, "ann", session.Login{}))
	token := b.token()
	const urlencoded = "application/x-www-form-urlencoded"
	form := url.Values{session.CSRFField: {token}, "k": {"v"}}.Encode()
	var files bytes.Buffer
	parts := multipart.NewWriter(&files)
	if err := errors.Join(parts.WriteField(session.CSRFField, token), parts.WriteField("k", "v"), parts.Close()); err != nil {
		t.Fatal(err)
	}
	with := func(r *http.Request, prepare func(r *http.Request)) *http.Request { prepare(r); return r }
	header := func(r *http.Request) { r.Header.Set(session.CSRFHeader, token) }
	for what, test := range map[string]struct {
		r    *http.Request
		ok   bool
		left string // of the body, for the handler
	}{
		"a form":                     {posting(urlencoded, form), true, ""},
		"a form with a charset":      {posting(urlencoded+"; charset=utf-8", form), true, ""},
		"a form that is put":         {with(posting(urlencoded, form), func(r *http.Request) { r.Method = http.MethodPut }), true, ""},
		"a form with a bad field":    {posting(urlencoded, form+"&a=%zz"), false, ""},
		"a form without it":          {posting(urlencoded, "k=v"), false, ""},
		"a form with another first":  {posting(urlencoded, session.CSRFField+"=x&"+form), false, ""},
		"the address":                {with(posting(urlencoded, "k=v"), func(r *http.Request) { r.URL.RawQuery = form }), false, ""},
		"the header of a form":       {with(posting(urlencoded, "k=v"), header), true, "k=v"},
		"a wrong header of a form":   {with(posting(urlencoded, form), func(r *http.Request) { r.Header.Set(session.CSRFHeader, "x") }), false, form},
		"a form that was parsed":     {with(posting(urlencoded, form), func(r *http.Request) { _ = r.ParseForm() }), true, ""},
		"JSON with the header":       {with(posting("application/json", `{}`), header), true, `{}`},
		"JSON":                       {posting("application/json", `{"`+session.CSRFField+`":"`+token+`"}`), false, `{"` + session.CSRFField + `":"` + token + `"}`},
		"no type":                    {posting("", form), false, form},
		"a wrong type":               {posting("application/x-www-form-urlencoded; =", form), false, ""},
		"text":                       {posting("text/plain", form), false, form},
		"files with the header":      {with(posting(parts.FormDataContentType(), files.String()), header), true, files.String()},
		"files":                      {posting(parts.FormDataContentType(), files.String()), false, files.String()},
		"files that were parsed":     {with(posting(parts.FormDataContentType(), files.String()), func(r *http.Request) { _ = r.ParseMultipartForm(1 << 10) }), true, ""},
		"files of which FormValue..": {with(posting(parts.FormDataContentType(), files.String()), func(r *http.Request) { _ = r.FormValue("k") }), true, ""},
		"files after ParseForm":      {with(posting(parts.FormDataContentType(), files.String()), func(r *http.Request) { _ = r.ParseForm() }), false, files.String()},
		"no body":                    {httptest.NewRequest(http.MethodDelete, "https://www.example.com/", nil), false, ""},
		"no body with the header":    {with(httptest.NewRequest(http.MethodDelete, "https://www.example.com/", nil), header), true, ""},
		"a body that is too long": {with(posting(urlencoded, form), func(r *http.Request) {
			r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 10)
		}), false, ""},
	} {
		p.told()
		b.send(test.r, func(r *http.Request, s *session.Session) {
			err := s.CheckCSRF(r)
			if (err == nil) != test.ok || err != nil && !errors.Is(err, session.ErrCSRF) {
				t.Errorf("%s: %v", what, err)
			}
			left, readErr := io.ReadAll(r.Body)
			if string(left) != test.left || readErr != nil && what != "a body that is too long" {
				t.Errorf("%s: the handler finds %q, %v; want %q", what, left, readErr, test.left)
			}
			if strings.Contains(fmt.Sprint(err), "zz") || strings.Contains(fmt.Sprint(err), token[:8]) {
				t.Errorf("%s: the error has what the browser sent: %v", what, err)
			}
		})
		kinds := []session.EventKind{}
		for _, e := range p.told() {
			kinds = append(kinds, e.Kind)
			if e.User != "ann" || !errors.Is(e.Err, session.ErrCSRF) || e.Key.IsZero() {
				t.Errorf("%s: the hook is told %+v", what, e)
			}
		}
		if want := []session.EventKind{session.EventCSRF}; test.ok && len(kinds) > 0 || !test.ok && !slices.Equal(kinds, want) {
			t.Errorf("%s: the hook is told of %v", what, kinds)
		}
	}
}

func TestRequireCSRFLetsNothingThroughThatChanges(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var logged strings.Builder
	p := newSite(t, session.Options{Logger: zap.New(recorder{zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), &mu, &logged})})
	b := p.tab()
	b.visit(loggingIn(t, "ann", session.Login{}))
	token := b.token()
	called := false
	inside := p.manager.RequireCSRF(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	ask := func(handler http.Handler, method, token string) int {
		r := httptest.NewRequest(method, "https://www.example.com/", nil)
		r.AddCookie(&http.Cookie{Name: "__Host-session", Value: b.cookies["__Host-session"]})
		if token != "" {
			r.Header.Set(session.CSRFHeader, token)
		}
		w := httptest.NewRecorder()
		called = false
		handler.ServeHTTP(w, r)
		return w.Code
	}
	whole := p.manager.Handler(inside)
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE"} {
		if status := ask(whole, method, ""); status != http.StatusOK || !called {
			t.Errorf("%s: %d", method, status)
		}
	}
	p.want("Create", "Get") // and nothing for those methods
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "CONNECT", "PROPFIND", "get"} {
		if status := ask(whole, method, ""); status != http.StatusForbidden || called {
			t.Errorf("%s without a token: %d, called: %t", method, status, called)
		}
		if status := ask(whole, method, token); status != http.StatusOK || !called {
			t.Errorf("%s with a token: %d, called: %t", method, status, called)
		}
	}
	if text := logged.String(); !strings.Contains(text, `"level":"warn"`) || strings.Contains(text, `"level":"error"`) || strings.Contains(text, token[:8]) {
		t.Errorf("the log says %s", text)
	}
	if status := ask(inside, "POST", token); status != http.StatusInternalServerError || called {
		t.Errorf("outside of Handler: %d, called: %t", status, called)
	}
	p.store.fail("Get", errors.New("no database"))
	logged.Reset()
	if status := ask(whole, "POST", token); status != http.StatusServiceUnavailable || called {
		t.Errorf("without the store: %d, called: %t", status, called)
	}
	if n := strings.Count(logged.String(), "\n"); n != 1 {
		t.Errorf("the log is told %d times: %s", n, logged.String())
	}
	p.store.fail("Get", nil)
	impatient := p.manager.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		inside.ServeHTTP(w, r.WithContext(ctx))
	}))
	p.store.fail("Get", context.Canceled)
	if status := ask(impatient, "POST", token); status != http.StatusServiceUnavailable || called {
		t.Errorf("with a context that has ended: %d, called: %t", status, called)
	}
}

func TestAnErrorHandlerAnswersRequestsWithoutAToken(t *testing.T) {
	t.Parallel()
	answered, down := 0, errors.New("no database")
	p := newSite(t, session.Options{ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
		answered++
		if errors.Is(err, down) {
			return
		}
		if !errors.Is(err, session.ErrCSRF) {
			t.Errorf("the handler is told %v", err)
		}
		http.Error(w, "reload the page", http.StatusForbidden)
	}})
	w := httptest.NewRecorder()
	p.manager.Handler(p.manager.RequireCSRF(http.NotFoundHandler())).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "https://localhost/", nil))
	if w.Code != http.StatusForbidden || w.Body.String() != "reload the page\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	p.store.fail("Get", down)
	r := httptest.NewRequest(http.MethodPost, "https://localhost/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-session", Value: session.NewID(noon.Add(hour)).Secret()})
	p.manager.Handler(p.manager.RequireCSRF(http.NotFoundHandler())).ServeHTTP(httptest.NewRecorder(), r)
	if answered != 2 {
		t.Errorf("two requests are answered %d times", answered)
	}
}

func TestWhenThereIsNoCSRFToken(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{AnonymousOnOutage: true})
	fails := func(what string, s *session.Session, want error) {
		t.Helper()
		if token, err := s.CSRFToken(); !errors.Is(err, want) || token != "" {
			t.Errorf("%s: %q, %v; want %v", what, token, err, want)
		}
	}
	answerOf(p.manager, httptest.NewRequest(http.MethodGet, "http://www.example.com/", nil), func(_ context.Context, s *session.Session) {
		fails("plain HTTP", s, session.ErrInsecure)
	})
	w := httptest.NewRecorder()
	var late *session.Session
	p.manager.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := session.FromContext(r.Context())
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(w, "begun")
		fails("a visitor's answer that has begun", s, session.ErrTooLate)
		late = s
	})).ServeHTTP(w, get(""))
	fails("a request that is over", late, session.ErrTooLate)
	b := p.tab()
	b.visit(loggingIn(t, "ann", session.Login{}))
	p.manager.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "begun")
		if s, err := session.FromContext(r.Context()); err != nil || tokenOf(t, s) == "" {
			t.Errorf("late in an answer: %v", err)
		}
	})).ServeHTTP(httptest.NewRecorder(), get("__Host-session="+b.cookies["__Host-session"]))
	p.store.fail("Get", errors.New("no database"))
	b.visit(func(_ context.Context, s *session.Session) {
		fails("an outage", s, session.ErrDegraded)
		if err := s.CheckCSRF(get("")); !errors.Is(err, session.ErrDegraded) {
			t.Errorf("an outage: CheckCSRF: %v", err)
		}
	})
}

func TestAVisitorsFormAfterTheSessionHasEnded(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.tab()
	b.visit(loggingIn(t, "ann", session.Login{}))
	token := b.token()
	p.clock.advance(oneDay)
	b.refuses("an expired session's form", token)
	b.accepts("the form that is shown then", b.token())
	b.visit(loggingIn(t, "ann", session.Login{}))
	var shown string
	b.visit(func(ctx context.Context, s *session.Session) {
		if err := s.Destroy(ctx); err != nil {
			t.Error(err)
		}
		shown = tokenOf(t, s)
	})
	b.accepts("a form with the answer to a logout", shown)
	visitor := b.cookies["__Host-session-csrf"]
	b.visit(loggingIn(t, "ann", session.Login{}))
	b.visit(func(ctx context.Context, s *session.Session) {
		if _, err := p.store.Store.Destroy(ctx, s.Key()); err != nil {
			t.Error(err)
		}
		setting(t, "k", 1)(ctx, s)
		if err := s.Save(ctx); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Save: %v", err)
		}
		shown = tokenOf(t, s)
	})
	b.accepts("a form of a request whose session has ended meanwhile", shown)
	if got := b.cookies["__Host-session-csrf"]; visitor == "" || got != visitor {
		t.Errorf("a visitor's cookie %q is replaced by %q; other tabs have forms of it", visitor, got)
	}
}

func TestCSRFTokensOfSeveralManagersAndSignedCookies(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Cookie: session.Cookie{SigningKeys: session.Secrets(strings.Repeat("k", 32))}})
	shop := newSiteOn(t, p.clock, p.store, session.Options{Name: "shop"})
	b := p.tab()
	visitors := b.token()
	b.on(shop).token()
	b.accepts("a visitor's", visitors)
	b.on(shop).refuses("another manager's", visitors)
	b.visit(loggingIn(t, "ann", session.Login{}))
	b.on(shop).visit(loggingIn(t, "ann", session.Login{}))
	token := b.token()
	b.visit(renewing(t, minute))
	b.accepts("its own", token)
	b.on(shop).refuses("another manager's", token)
}

// A head that somebody has altered yields no token, and no panic.
func TestAnAlteredRootIsNone(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.tab()
	b.visit(loggingIn(t, "ann", session.Login{}))
	b.visit(renewing(t, minute))
	token := b.token()
	id, err := session.ParseID(b.cookies["__Host-session"])
	if err != nil {
		t.Fatal(err)
	}
	rec, err := p.store.Store.Get(t.Context(), id.Key())
	if err != nil {
		t.Fatal(err)
	}
	fields := bytes.SplitN(rec.Data, []byte{' '}, 7)
	if len(fields[5]) < 40 {
		t.Fatalf("the head is %s", rec.Data)
	}
	for _, bad := range []string{"A", "*", "AAAA", strings.Repeat("A", 11), strings.Repeat("A", 12), strings.Repeat("A", 32), string(fields[5][:32]) + "AAAA"} {
		fields[5] = []byte(bad)
		rec.Data = bytes.Join(fields, []byte{' '})
		saved, err := p.store.Store.Save(t.Context(), rec)
		if err != nil {
			t.Fatal(err)
		}
		rec.Version = saved.Version
		b.refuses(bad, token)
		b.visit(func(_ context.Context, s *session.Session) {
			if token, err := s.CSRFToken(); !errors.Is(err, session.ErrCSRF) || token != "" {
				t.Errorf("%s: %q, %v", bad, token, err)
			}
		})
	}
	b.visit(loggingIn(t, "ann", session.Login{}))
	b.accepts("after a login", b.token())
}

func TestCSRFTokensAreAskedForConcurrently(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b := p.tab()
	b.visit(func(ctx context.Context, s *session.Session) {
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				tokenOf(t, s)
				setting(t, fmt.Sprint(i), 1)(ctx, s)
				_ = fmt.Sprintf("%+v", s)
				_ = s.CheckCSRF(get(""))
			})
		}
		wg.Wait()
	})
	if text, err := json.Marshal(b.cookies); err != nil || len(b.cookies) != 2 {
		t.Errorf("%s, %v", text, err)
	}
}

func TestCSRFTokensOfASessionThatIsOpenedOutsideAHandler(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Cookie: session.Cookie{SigningKeys: session.Secrets(strings.Repeat("k", 32))}})
	b := p.tab()
	b.visit(loggingIn(t, "ann", session.Login{}))
	s, err := p.manager.Open(t.Context(), b.cookies["__Host-session"])
	if err != nil {
		t.Fatal(err)
	}
	token := tokenOf(t, s)
	b.accepts("a token that was made outside", token)
	if err := errors.Join(s.Renew(t.Context(), minute), s.Save(t.Context())); err != nil {
		t.Fatal(err)
	}
	b.accepts("the token, by the ID of before", token)
	b.cookies["__Host-session"] = s.Token().Text()
	b.accepts("the token, by the new ID", token)
	b.accepts("a token of after", tokenOf(t, s))

	nobody, err := p.manager.Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	worker, err := p.manager.OpenKey(t.Context(), s.Key())
	if err != nil {
		t.Fatal(err)
	}
	for what, s := range map[string]*session.Session{"no session": nobody, "a session by its key": worker} {
		if token, err := s.CSRFToken(); !errors.Is(err, session.ErrCSRF) || token != "" {
			t.Errorf("%s: %q, %v; want ErrCSRF", what, token, err)
		}
		if err := s.CheckCSRF(get("")); !errors.Is(err, session.ErrCSRF) {
			t.Errorf("%s: CheckCSRF: %v; want ErrCSRF", what, err)
		}
	}
}
