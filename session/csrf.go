package session

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"

	"github.com/sojourn-go/sojourn/internal/redacted"
	"github.com/sojourn-go/sojourn/internal/reqsession"
)

// A CSRF token shows that a request comes from a page of the service: other sites
// cannot read one. Its root is an HMAC of the session's ID, so that it costs no
// row, and a stolen database yields none. A session whose ID was replaced by one
// with a grace period keeps its root, as pages with tokens are still open. Then its
// head holds the root under pads that only the IDs yield.
//
// A visitor without a session has the root of a cookie beside the session's. A
// session that begins takes it over, until the login.

const (
	// CSRFField is the field of a form in which CheckCSRF looks for a token.
	CSRFField = "csrf_token"
	// CSRFHeader is the field of the header in which CheckCSRF looks for a token
	// first, for scripts.
	CSRFHeader = "X-CSRF-Token"
)

// csrfRoot is what the tokens of a session are made of.
type csrfRoot [16]byte

// csrfText is how tokens and what they are made of are written.
var csrfText = base64.RawURLEncoding.Strict()

// rootOf returns the root that a secret of the browser yields.
func rootOf(secret []byte) csrfRoot {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("sojourn csrf"))
	return csrfRoot(h.Sum(nil)[:len(csrfRoot{})])
}

func (r csrfRoot) xor(other csrfRoot) (both csrfRoot) {
	subtle.XORBytes(both[:], r[:], other[:])
	return both
}

// token returns the root under a pad that is another each time, so that the
// lengths of compressed pages tell nothing of it (BREACH).
func (r csrfRoot) token() string {
	var pad csrfRoot
	rand.Read(pad[:])
	under := r.xor(pad)
	return csrfText.EncodeToString(append(pad[:], under[:]...))
}

// made reports whether a token is one of the root.
func (r csrfRoot) made(token string) bool {
	var raw [2 * len(r)]byte
	if len(token) != csrfText.EncodedLen(len(raw)) {
		return false
	}
	if n, err := csrfText.Decode(raw[:], []byte(token)); err != nil || n != len(raw) {
		return false
	}
	root := csrfRoot(raw[:len(r)]).xor(csrfRoot(raw[len(r):]))
	return subtle.ConstantTimeCompare(root[:], r[:]) == 1
}

// checkLen is how long the hash is that tells the root from other bytes.
const checkLen = 8

func (r csrfRoot) check() [checkLen]byte {
	sum := sha256.Sum256(r[:])
	return [checkLen]byte(sum[:])
}

// mostPads is how many IDs may lead to a root: the present one, and the last ones
// of which the grace periods last.
const mostPads = 3

// wrappedLen is how long the text of a head is that holds a root, at most.
var wrappedLen = csrfText.EncodedLen(checkLen + mostPads*len(csrfRoot{}))

// wrap is a head's text of a root that is under a pad of each ID.
func (r csrfRoot) wrap(under []csrfRoot) string {
	check := r.check()
	raw := check[:]
	for _, one := range under[:min(len(under), mostPads)] {
		raw = append(raw, one[:]...)
	}
	return csrfText.EncodeToString(raw)
}

// wrapped takes a head's text apart.
func (h head) wrapped() (check [checkLen]byte, under []csrfRoot, ok bool) {
	raw, err := csrfText.DecodeString(h.csrf)
	if err != nil || len(raw) < checkLen {
		return check, nil, false
	}
	rest := raw[copy(check[:], raw):]
	for len(rest) >= len(csrfRoot{}) {
		under = append(under, csrfRoot(rest[:len(csrfRoot{})]))
		rest = rest[len(csrfRoot{}):]
	}
	return check, under, len(rest) == 0
}

// root is the one of a session that a request has come to by that ID.
func (h head) root(id []byte) (root csrfRoot, ok bool) {
	own := rootOf(id)
	if h.csrf == "" {
		return own, true
	}
	check, under, ok := h.wrapped()
	if !ok {
		return csrfRoot{}, false
	}
	for _, one := range under {
		if root := one.xor(own); root.check() == check {
			return root, true
		}
	}
	return csrfRoot{}, false
}

// wrapRoot is what the head of a session to be has of its root.
func (s *Session) wrapRoot(d *draft) string {
	root, ok := csrfRoot{}, true
	switch {
	case d.root != nil:
		root = *d.root
	case d.severs:
		return "" // the new ID yields another
	default:
		root, ok = s.root()
	}
	if !ok {
		return ""
	}
	under := []csrfRoot{root.xor(rootOf(d.id.bytes()))}
	if id := s.rawID(); !d.severs && d.grace > 0 && id != nil {
		if _, before, ok := s.head.wrapped(); ok {
			under = append(under, before...)
		} else {
			under = append(under, root.xor(rootOf(id)))
		}
	}
	return root.wrap(under)
}

// root is that of the session with which the request came, or of its visitor.
func (s *Session) root() (csrfRoot, bool) {
	if s.rec.Key.IsZero() {
		visitor := s.visit.known()
		return rootOf(visitor), visitor != nil
	}
	id := s.rawID()
	if id == nil {
		return csrfRoot{}, false
	}
	return s.head.root(id)
}

// rawID is the ID by which the request came to its session, or which it has made;
// nil if it came by none.
func (s *Session) rawID() []byte {
	if !s.made.IsZero() {
		return s.made.bytes()
	}
	if s.r == nil {
		return s.m.cookie.rawOf(s.token)
	}
	if !s.oldKey.IsZero() && s.asked == s.oldKey {
		return []byte(s.oldToken)
	}
	return s.m.cookie.raw(s.r, s.asked)
}

// CSRFToken returns a token for a form or a script of the page that answers the
// request: see CheckCSRF. It is text of A-Z, a-z, 0-9, "-" and "_", another one
// each time, and no secret from the user.
//
// All tokens of a session are good until it ends, Login gives it a new ID, or Renew
// without a grace period does. So they are in several tabs, after the back button,
// on all nodes, and when an ID is renewed by Policy.RenewAfter. After Login and
// Renew it is a token of the new ID.
//
// It stores nothing. A visitor without a session gets a cookie of the name of the
// session's with "-csrf" behind it, for which the error may be ErrTooLate,
// ErrInsecure or ErrMisplaced as with Set. It is ErrDegraded if the session could
// not be read.
func (s *Session) CSRFToken() (token string, err error) {
	err = s.do(s.ctx, func() error {
		if err := s.usable(); err != nil {
			return err
		}
		root, err := s.nextRoot()
		token = root.token()
		return err
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// nextRoot is the root of the session as it will be after the request.
func (s *Session) nextRoot() (root csrfRoot, err error) {
	if d := s.next; d != nil && d.severs {
		if d.root == nil {
			d.root = new(csrfRoot)
			rand.Read(d.root[:])
		}
		return *d.root, nil
	}
	if s.dead() {
		return s.visit.welcome()
	}
	if root, ok := s.root(); ok {
		return root, nil
	}
	if !s.rec.Key.IsZero() {
		return root, fmt.Errorf("%w: the request has not come by an ID of its session", ErrCSRF)
	}
	return s.visit.welcome()
}

// known is what a visitor's cookie holds; nil if there is none.
func (v *visit) known() []byte {
	if v.visitor == nil && v.r != nil {
		v.visitor = v.m.cookie.visitor(v.r)
	}
	return v.visitor
}

// welcome gives a visitor the cookie for the tokens.
func (v *visit) welcome() (csrfRoot, error) {
	if v.known() == nil {
		if v.r == nil {
			return csrfRoot{}, fmt.Errorf("%w: without a request there is no visitor; begin a session first", ErrCSRF)
		}
		if v.state.Sealed() {
			return csrfRoot{}, fmt.Errorf("%w: the token of a visitor without a session needs a cookie. Ask for it before writing", ErrTooLate)
		}
		if err := v.m.reaches(v.r); err != nil {
			return csrfRoot{}, err
		}
		v.visitor = make([]byte, visitorLen)
		rand.Read(v.visitor)
		cookie := v.m.cookie.attributes(v.m.policy)
		cookie.Name += visitorSuffix
		cookie.Value = csrfText.EncodeToString(v.visitor)
		v.visitorLine = cookie.String()
	}
	return rootOf(v.visitor), nil
}

const (
	// visitorSuffix follows the name of the session's cookie in that of a visitor.
	visitorSuffix = "-csrf"
	visitorLen    = 16
)

// visitor is what a visitor's cookie holds; nil if there is none.
func (c Cookie) visitor(r *http.Request) []byte {
	for _, cookie := range r.CookiesNamed(c.Name + visitorSuffix) {
		if raw, err := csrfText.DecodeString(cookie.Value); err == nil && len(raw) == visitorLen {
			return raw
		}
	}
	return nil
}

// CheckCSRF checks that a request which changes something comes from a page of this
// service: that it has a token which CSRFToken gave to its session, or to its
// visitor if it has none. The error is ErrCSRF, for which 403 is the answer, and
// EventCSRF tells. Call it before Login. It takes the same time for each wrong
// token.
//
// The token is in the field CSRFHeader of the header. If there is none, it is in the
// field CSRFField of a form: r.ParseForm reads one in the URL's encoding, as it does
// for the handler that calls r.FormValue, within the limit of
// http.MaxBytesReader. No other body is read: it is the handler's. A form with
// files has to be read by r.ParseMultipartForm before, or its token has to come in
// the header, as with JSON. The address is never looked at, as it gets into logs.
func (s *Session) CheckCSRF(r *http.Request) error {
	token, absent := csrfTokenOf(r)
	return s.do(s.ctx, func() error {
		if err := s.usable(); err != nil {
			return err
		}
		err := absent
		if err == nil {
			root, ok := s.root()
			switch {
			case !ok:
				err = fmt.Errorf("%w: the request has neither a session nor the cookie of a visitor", ErrCSRF)
			case !root.made(token):
				err = fmt.Errorf("%w: it is another session's, or of before a login", ErrCSRF)
			}
		}
		if err != nil {
			s.happened(Event{Kind: EventCSRF, Err: err})
		}
		return err
	})
}

// csrfTokenOf is the token that a request brings.
func csrfTokenOf(r *http.Request) (string, error) {
	if token := r.Header.Get(CSRFHeader); token != "" {
		return token, nil
	}
	if r.PostForm == nil {
		if err := r.ParseForm(); err != nil {
			return "", fmt.Errorf("%w: %w", ErrCSRF, redacted.Because("the form cannot be read", err))
		}
	}
	if token := r.PostForm.Get(CSRFField); token != "" {
		return token, nil
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "multipart/form-data" && r.MultipartForm == nil {
		return "", fmt.Errorf("%w: a form with files is read by r.ParseMultipartForm first, or has the token in the field %s of its header", ErrCSRF, CSRFHeader)
	}
	return "", fmt.Errorf("%w: the request has none", ErrCSRF)
}

// RequireCSRF has next answer requests that pass Session.CheckCSRF, and those of the
// methods GET, HEAD, OPTIONS and TRACE, which must change nothing. Others are
// answered by Options.ErrorHandler, or 403. It belongs inside of Handler.
//
// Forms with files bring their token in the header, as next reads them. Else the
// handler of such a form stands outside of RequireCSRF, and calls CheckCSRF.
func (m *Manager) RequireCSRF(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
			next.ServeHTTP(w, r)
			return
		}
		s, err := m.Session(r.Context())
		if err == nil {
			err = s.CheckCSRF(r)
		}
		switch {
		case err == nil:
			next.ServeHTTP(w, r)
		case s == nil || !s.failed(): // else Handler answers
			m.fail(w, r, err)
		}
	})
}

func (s *Session) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Is(reqsession.Failed)
}
