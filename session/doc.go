// Package session gives the requests of a web service their sessions, and says
// what a store of sessions promises.
//
// # In five minutes
//
//	store, err := pgstore.New(ctx, pool, pgstore.Options{})
//	sessions, err := session.NewManager(store, session.Options{})
//	server.Handler = http.NewCrossOriginProtection().Handler(sessions.Handler(mux))
//
// A handler asks for the session of its request. If it cannot be loaded, the
// Manager answers for the handler, which just returns:
//
//	s, err := session.FromContext(r.Context())
//	if err != nil {
//		return
//	}
//	err = s.Login(r.Context(), "alice", session.Login{}) // after checking the password
//	err = s.Set("theme", "dark")
//	theme, err := session.Get[string](s, "theme")
//	err = session.Update(s, "visits", func(n int) int { return n + 1 })
//	err = visits.Update(s, func(n int) int { return n + 1 }) // visits is a Value: a key with its type
//	err = s.Flash("Welcome!") // or s.FlashAs("info", "Welcome!")
//	err = s.Logout(r.Context())
//
// Nothing is read for requests that do not ask. What a request changes is saved
// before the first byte of its answer; if that fails, nothing of what the
// handler writes is sent, and [Options].ErrorHandler answers. A request that
// changes nothing writes nothing, but for a touch now and then.
//
// # Coming from scs or express-session
//
//	scs                              here
//	LoadAndSave                      Manager.Handler
//	Put, GetString, GetInt, …        Session.Set, Get[T]
//	PopString, …                     Pop[T], Take[T]
//	RenewToken                       Session.Login, Session.Renew
//	Destroy                          Session.Destroy, Session.Logout
//	Iterate                          Manager.All
//	Lifetime, IdleTimeout            Policy.AbsoluteTimeout, Policy.IdleTimeout
//	RememberMe                       PolicyRememberMe in Login.Policy, or later in Session.SetPolicy
//	ErrorFunc                        Options.ErrorHandler
//	Load, Commit, Token              Manager.Open, Session.End, Session.Token
//
//	express-session                  here
//	req.session.x = …                Session.Set
//	regenerate                       Session.Login, Session.Renew
//	destroy, save, reload            Session.Destroy, Save, Reload
//	cookie.maxAge, rolling           Policy: the idle timeout slides in the store; the cookie need not.
//	                                 Session.SetPolicy for one session
//	resave                           not needed: an unchanged session is touched, never written again
//	saveUninitialized                Options.SaveUninitialized
//	secret                           Cookie.SigningKeys
//	unset: 'destroy'                 Session.Destroy
//	connect-flash                    Session.FlashAs, FlashesAs[T]; without a category Flash, Flashes[T]
//	csurf, csrf-csrf                 Session.CSRFToken, Manager.RequireCSRF
//
// # Requests at the same time
//
// What a request changes is a difference by key. If another request has saved
// meanwhile, the difference is made to what that has saved. Of two requests
// that set different values both win, and of the same value the last. [Update]
// and Flash add to what is there, [Take] gives a value to one of them. After
// Session.FailOnConflict such a save is ErrConflict instead.
//
// A session may end while a request is under way, by a logout, a timeout or a
// login with a new ID. Then the request's changes are dropped, EventSaveDropped
// says so, and the cookie is left alone: by then the browser may have another
// one. The cookie is set by what makes a session or gives it an ID, and cleared
// by a logout in that very request, and by nothing else, but that dead ones of its
// name are cleared beside a live one. A login and a new ID happen with the answer that
// brings the cookie, or not at all. If the ID was renewed with a grace period, the
// changes go to the session's new ID.
//
// # Outside a handler
//
// An interceptor of gRPC has the ID in the metadata of a call. [Manager.Open] gives
// it the session, Session.End saves it, and Session.Token is what the client sends
// next:
//
//	s, err := sessions.Open(ctx, token) // ErrNotFound: the client is not logged in
//	answer, err := handler(session.NewContext(ctx, s), request)
//	err = s.End(ctx)
//	err = grpc.SetHeader(ctx, metadata.Pairs("session", s.Token().Text()))
//
// Work that goes on without the client opens a session by [Manager.OpenKey] or
// [Manager.OpenHandle], and [Manager.ChangeUser] changes all sessions of a user. The
// rules are those of requests.
//
// # Requests of other sites
//
// The browser sends the cookie with requests that other sites' pages make, where
// SameSite does not keep it back. [net/http.CrossOriginProtection] refuses those which
// change something, by what browsers say of them. Where that is not enough,
// [Session.CSRFToken] has a token for each form, and [Manager.RequireCSRF] asks for it:
//
//	server.Handler = http.NewCrossOriginProtection().Handler(sessions.Handler(sessions.RequireCSRF(mux)))
//
// What each of them covers, and how cookies get through proxies, to development
// hosts and to several services of one host, is in docs/http.md.
//
// # Life of a session
//
//	           Create / Put
//	                │
//	                ▼
//	   ┌───────── live ─────────┐
//	   │            │           │
//	   │ Renew      │ Destroy   │ idle timeout or deadline,
//	   │            │           │ by the store's clock
//	   ▼            ▼           ▼
//	renewed       ended      expired
//	   │
//	   └── for a grace period the old key leads to its successor
//
// There is no way back: a session that is renewed, ended or expired is never
// live again, whatever reads and writes are still under way. In particular
// Save and Touch never create a session.
//
// A session has two ends. Deadline is absolute and fixed when the session is
// created. Expires is the idle timeout's end, slides with use and never passes
// the deadline (OWASP Session Management Cheat Sheet, "Session Expiration").
// The store's clock decides whether either has passed, not the clock of the
// node that asks. [Policy] says how long both are.
//
// # Secrets
//
// An [ID] is what the browser holds. A store sees only its [Key], which holds
// a SHA-256 hash of it and is safe to log; so are Events and errors. A Session, a
// Manager, its Options and a [Secret] print, log and marshal as placeholders.
//
// # Stores
//
// [Store] is what a store must do, and the interfaces after it what it may do
// beside that. Package sessiontest has the suite that tells whether one does,
// and a Browser for the tests of handlers.
package session
