package main

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/session"
)

const (
	lifetime    = 12 * time.Hour
	idleTimeout = 30 * time.Minute
	kept        = 30 * 24 * time.Hour // PolicyRememberMe's lifetime
)

// Over HTTPS the cookie would be left as it is: __Host-session, Secure. This is
// plain HTTP on the loopback interface, where not all browsers take such a cookie:
// Safari does not (WebKit bug 281149). Cookies do not know ports: a browser that
// logs in on one node is logged in on all.
const cookieName = "demo_session"

func newManager(store session.Store, s *server) (*session.Manager, error) {
	return session.NewManager(store, session.Options{
		Policy:       session.Policy{IdleTimeout: idleTimeout, AbsoluteTimeout: lifetime},
		Cookie:       session.Cookie{Name: cookieName, Insecure: true},
		ErrorHandler: s.fail,
		OnEvent:      s.happened,
		Logger:       s.log,
	})
}

// happened logs what becomes of sessions. Keys are no secret.
func (s *server) happened(_ context.Context, e session.Event) {
	var fields []zap.Field
	if !e.Key.IsZero() {
		fields = append(fields, zap.Stringer("session", e.Key))
	}
	if !e.Old.IsZero() {
		fields = append(fields, zap.Stringer("before", e.Old))
	}
	if e.User != "" {
		fields = append(fields, zap.String("user", e.User))
	}
	if e.Reason != "" {
		fields = append(fields, zap.String("reason", string(e.Reason)))
	}
	if e.Count > 0 {
		fields = append(fields, zap.Int64("count", e.Count))
	}
	if e.Err != nil {
		fields = append(fields, zap.Error(e.Err))
	}
	s.log.Info("session "+e.Kind.String(), fields...)
}
