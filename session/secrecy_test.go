package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sojourn-go/sojourn/session"
)

// recorder is a core that keeps all that is logged, as JSON.
type recorder struct {
	zapcore.Encoder
	mu  *sync.Mutex
	out *strings.Builder
}

func (r recorder) Enabled(zapcore.Level) bool { return true }
func (r recorder) Sync() error                { return nil }
func (r recorder) With(fields []zapcore.Field) zapcore.Core {
	r.Encoder = r.Encoder.Clone()
	for _, field := range fields {
		field.AddTo(r.Encoder)
	}
	return r
}

func (r recorder) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return to.AddCore(e, r)
}

func (r recorder) Write(e zapcore.Entry, fields []zapcore.Field) error {
	line, err := r.EncodeEntry(e, fields)
	if err != nil {
		return err
	}
	defer line.Free()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.WriteString(line.String())
	return nil
}

func TestNoIDIsInAnyEventLogOrError(t *testing.T) {
	t.Parallel()
	down := errors.New("no database")
	for _, keys := range [][][]byte{nil, {make([]byte, 32)}} {
		var mu sync.Mutex
		var out, logged strings.Builder
		note := func(what any) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(&out, "%+v\n%#v\n", what, what)
		}
		options := session.Options{
			Policy: session.Policy{RenewAfter: hour, IdleTimeout: 2 * hour}, Cookie: session.Cookie{SigningKeys: session.Secrets(keys...)},
			Logger:  zap.New(recorder{zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), &mu, &logged}),
			OnEvent: func(_ context.Context, e session.Event) { note(e) },
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				note(err)
				w.WriteHeader(http.StatusServiceUnavailable)
			},
		}
		p := newSite(t, options)
		options.ErrorHandler = nil // that of the manager logs
		quiet := newSiteOn(t, p.clock, p.store, options)
		var secrets []string
		visit := func(b *browser, do page) {
			secrets = append(secrets, b.value())
			b.visitFailing(func(ctx context.Context, s *session.Session) {
				if do != nil {
					do(ctx, s)
				}
				note(s.Info())
				note(s.Key())
			})
			secrets = append(secrets, b.value())
		}
		for _, p := range []*site{p, quiet} {
			b := p.browser()
			visit(b, setting(t, "k", 1))
			visit(b, loggingIn(t, "ann", session.Login{Label: "phone"}))
			for _, op := range []string{"Touch", "Renew", "Save", "Get", "Destroy", "Fate"} {
				p.store.fail(op, down)
				p.clock.advance(40 * minute)
				visit(b, nil)
				visit(b, func(ctx context.Context, s *session.Session) {
					note(s.Set("k", op))
					note(s.Set("c", make(chan int)))
					note(s.Save(ctx))
					note(s.Renew(ctx, 0))
					note(s.Destroy(ctx))
				})
				p.store.fail(op, nil)
				if b.cookie == "" {
					visit(b, loggingIn(t, "ann", session.Login{}))
				}
			}
			plant(t, p, keyOf(unsigned(b)), "{"+b.value())
			visit(b, func(_ context.Context, s *session.Session) { _ = s.Has("k") })
			visit(b, func(ctx context.Context, s *session.Session) {
				setting(t, "k", 1)(ctx, s)
				_, err := p.manager.RevokeUser(ctx, "ann")
				note(err)
			})
			for _, cookie := range []string{b.cookie + "x", b.name() + "=" + session.NewID(p.clock.Now().Add(hour)).Secret()} {
				visit(&browser{site: p, cookie: cookie}, nil)
			}
			p.clock.advance(oneDay)
			visit(b, nil)
		}
		if n := strings.Count(logged.String(), "\n"); n < 5 {
			t.Errorf("there are %d lines in the log; the test needs more", n)
		}
		text := out.String() + logged.String()
		for _, secret := range secrets {
			id, mac, _ := strings.Cut(secret, ".")
			if len(id) >= session.IDTextLen && strings.Contains(text, id[8:24]) || len(mac) > 24 && strings.Contains(text, mac[8:24]) {
				t.Fatalf("a cookie is told: %.3000s", text)
			}
			if parsed, err := session.ParseID(id); err == nil {
				keepsSecret(t, "what was told", parsed, text)
			}
		}
	}
}

// unsigned is the browser with its cookie unsigned.
func unsigned(b *browser) *browser {
	cookie, _, _ := strings.Cut(b.cookie, ".")
	return &browser{site: b.site, cookie: cookie}
}
