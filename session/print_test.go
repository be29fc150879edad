package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sojourn-go/sojourn/session"
)

// printed is what fmt, encoding/json, log/slog and zap make of a thing, by itself
// and where it is held, in fields that are not exported too if asked for.
func printed(what, hidden any) map[string]string {
	type holder struct {
		Shown  any
		hidden any
	}
	texts := map[string]string{}
	for held, what := range map[string]any{
		"itself": what, "in a slice": []any{what}, "in a map": map[string]any{"a": what}, "in a struct": holder{what, hidden}, "behind a pointer": &holder{what, hidden},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			texts[verb+" "+held] = fmt.Sprintf(verb, what)
		}
		text, err := json.Marshal(what)
		texts["JSON "+held] = fmt.Sprint(string(text), err)
		texts["an error with it "+held] = fmt.Errorf("failed with %v", what).Error()
		for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
			"slog text ": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			"slog JSON ": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var out bytes.Buffer
			slog.New(handler(&out)).Info("told", "it", what, slog.Any("group", slog.GroupValue(slog.Any("it", what))))
			texts[name+held] = out.String()
		}
		for name, encoder := range map[string]zapcore.Encoder{
			"zap JSON ":    zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
			"zap console ": zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
		} {
			var out strings.Builder
			log := zap.New(recorder{encoder, new(sync.Mutex), &out})
			log.Info("told", zap.Any("it", what), zap.Reflect("again", what))
			log.Sugar().Infow("told", "it", what)
			log.Sugar().Infof("told %v %+v", what, what)
			log.Sugar().Info("told", what)
			texts[name+held] = out.String()
		}
	}
	return texts
}

// keyed is a Codec that is no pointer.
type keyed struct {
	session.JSON
	key string
}

func TestNothingThatPrintsShowsASecretOrWhatUsersEntrusted(t *testing.T) {
	t.Parallel()
	const entrusted, key = "the user's own value", "a signing key of forty bytes, of letters"
	opts := session.Options{
		Cookie: session.Cookie{SigningKeys: session.Secrets(key)}, Codec: newSealing(t, "sixteen byte key"),
	}
	p := newSite(t, opts)
	b := p.browser()
	var cookies []string
	check := func(name string, what any) {
		t.Helper()
		var hidden any
		if _, open := what.(session.Record); !open { // which fmt does not even ask there
			hidden = what
		}
		for by, text := range printed(what, hidden) {
			for _, secret := range append(cookies, entrusted, key, "sixteen byte key") {
				for _, form := range []string{secret, fmt.Sprintf("%x", secret), strings.Trim(fmt.Sprint([]byte(secret)), "[]")} {
					if len(secret) > 0 && strings.Contains(text, form) {
						t.Errorf("%s, %s: %.300s", name, by, text)
						return
					}
				}
			}
		}
	}
	all := func(ctx context.Context, s *session.Session) {
		t.Helper()
		setting(t, "k", entrusted)(ctx, s)
		if err := s.Flash(entrusted); err != nil {
			t.Error(err)
		}
		check("a session", s)
		check("a context", ctx)
	}
	b.visit(all)
	for _, do := range []page{
		loggingIn(t, "ann", session.Login{}),
		func(ctx context.Context, s *session.Session) {
			if err := s.Renew(ctx, 0); err != nil {
				t.Error(err)
			}
		},
		func(ctx context.Context, s *session.Session) {
			if err := s.Save(ctx); err != nil {
				t.Error(err)
			}
			_, err := session.Get[int](s, "k")
			check("the error of another type", err)
			check("an event", session.Event{Kind: session.EventSaveFailed, Err: err})
		},
	} {
		b.visit(func(ctx context.Context, s *session.Session) {
			all(ctx, s)
			do(ctx, s)
			all(ctx, s)
		})
		cookies = append(cookies, b.value())
	}
	check("a manager", p.manager)
	if text := fmt.Sprintf("%+v", p.manager); len(text) > 30 {
		t.Errorf("a manager prints as %.300s", text)
	}
	inClear := session.Options{Codec: keyed{key: key}}
	for by, text := range printed(inClear, nil) { // in a field that is not exported fmt does not ask
		if strings.Contains(text, key) || strings.Contains(text, fmt.Sprintf("%x", key)) {
			t.Errorf("options with a codec that is no pointer, %s: %.300s", by, text)
		}
	}
	check("options", opts)
	check("a pointer to options", &opts)
	check("a cookie", opts.Cookie)
	type service struct{ cookie session.Cookie }
	check("a cookie in a field that is not exported", service{opts.Cookie})
	check("keys", opts.Cookie.SigningKeys)
	check("a store", p.store.Store)
	plain := newSite(t, session.Options{})
	pb := plain.browser()
	pb.visit(loggingIn(t, "ann", session.Login{}))
	pb.visit(setting(t, "k", entrusted))
	rec, err := plain.store.Store.Get(t.Context(), keyOf(pb))
	if err != nil || !strings.Contains(string(rec.Data), entrusted) {
		t.Fatalf("the record is %s, %v", rec, err)
	}
	check("a record", rec)
	if text := rec.String(); !strings.Contains(text, rec.Key.String()) || !strings.Contains(text, "ann") {
		t.Errorf("a record prints as %s", text)
	}
	exports, err := collect(plain.manager.Export(t.Context(), "ann"))
	if err != nil || len(exports) != 1 {
		t.Fatal(exports, err)
	}
	for by, text := range printed(exports[0], nil) {
		whole := strings.HasPrefix(by, "JSON") || strings.HasPrefix(by, "slog JSON in") || strings.HasPrefix(by, "slog JSON behind") || strings.HasPrefix(by, "zap")
		if strings.Contains(text, entrusted) && !whole {
			t.Errorf("an export, %s: %.300s", by, text)
		}
	}
	text, err := json.Marshal(exports[0])
	if err != nil || !strings.Contains(string(text), entrusted) {
		t.Errorf("an export as JSON is %s, %v; it is for the user", text, err)
	}
}

func TestASessionIsPrintedWhileItIsUsed(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	b, _ := started(t, p)
	b.visit(func(ctx context.Context, s *session.Session) {
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 100 {
				setting(t, "k", i)(ctx, s)
			}
		})
		wg.Go(func() {
			for range 100 {
				_ = fmt.Sprintf("%+v %#v", s, p.manager)
				_ = fmt.Sprintf("%+v", p.store.Store)
			}
		})
		if err := session.Update(s, "k", func(n int) int { _ = fmt.Sprint(s); return n }); err != nil {
			t.Errorf("printing within an Update: %v", err)
		}
		wg.Wait()
	})
}

func TestSecretsAreKeptAsTheyWere(t *testing.T) {
	t.Parallel()
	text := []byte("abc")
	secrets := session.Secrets(text, []byte("d"))
	text[0] = 'x'
	if len(secrets) != 2 || secrets[0].Text() != "abc" || secrets[1].Text() != "d" || (session.Secret{}).Text() != "" {
		t.Error("the texts are others")
	}
}
