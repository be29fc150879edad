package nodestore_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

func TestNothingPrintsAnIDOrASecret(t *testing.T) {
	t.Parallel()
	w := express(t, "fake", nodestore.ExpressOptions{})
	w.node(sidA, lastingRow)
	var out strings.Builder
	show := func(v any) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		text, _ := json.Marshal(v)
		out.Write(text)
	}
	for _, op := range []string{"get", "save", "touch", "destroy", "renew", "create"} {
		w.store.fail(op, errLost)
		for _, do := range []func(turn){reads, sets("views", 8), func(t turn) { show(t.s.Destroy(t.ctx())) }, func(t turn) {
			show(t.s.Renew(t.ctx()))
			show(t.s.Save(t.ctx()))
		}} {
			w.clock.advance(time.Minute)
			res := w.ask(cookieA, func(t turn) {
				show(t.s)
				show(struct{ S *nodestore.Session }{t.s})
				show(t.err)
				if t.err == nil {
					do(t)
				}
			})
			body, _ := io.ReadAll(res.Body)
			out.Write(body)
		}
	}
	show(w.m)
	for _, e := range w.events {
		show(e)
	}
	for _, entry := range w.logs.All() {
		fmt.Fprintf(&out, "%v %v\n", entry.Message, entry.ContextMap())
	}
	for what, hidden := range map[string]string{"a sid": sidA, "a new sid": sidB, "a secret": secret, "a signature": cookieA[len(cookieA)-20:]} {
		if strings.Contains(out.String(), hidden) {
			t.Errorf("%s is printed", what)
		}
	}
	if len(w.events) == 0 || w.logs.Len() == 0 || !strings.Contains(out.String(), "(redacted)") {
		t.Error("nothing was printed")
	}
}

func TestGeneratedIDsAreLikeThoseOfThePackages(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 20 {
		w := newWeb(t, "fake", nodestore.Layout{})
		m, err := nodestore.NewExpressAt(w.store, nodestore.ExpressOptions{Secrets: session.Secrets(secret)}, w.clock.Now)
		w.must("NewExpress", err)
		w.m = m
		w.ask("", func(t turn) {
			t.must("Set", t.s.Set("views", 1))
			t.must("Save", t.s.Save(t.ctx()))
			seen[t.s.SID()] = true
			if len(t.s.SID()) != 32 || strings.Trim(t.s.SID(), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
				t.Errorf("an ID is %q", t.s.SID())
			}
		})
	}
	if len(seen) != 20 {
		t.Errorf("%d different IDs of 20", len(seen))
	}
	for what, generate := range map[string]func(*http.Request) (string, error){
		"an error": func(*http.Request) (string, error) { return "", errLost }, "empty": func(*http.Request) (string, error) { return "", nil },
		"a NUL": func(*http.Request) (string, error) { return "a\x00", nil }, "not UTF-8": func(*http.Request) (string, error) { return "\xff", nil },
	} {
		w := express(t, "fake", nodestore.ExpressOptions{GenerateID: generate})
		if res := w.ask("", sets("views", 1)); res.StatusCode < 500 || cookies(res) != "" {
			t.Errorf("%s: status %d", what, res.StatusCode)
		}
	}
	for _, id := range []string{"a b", "a;b", "é", `"a"`} {
		w := koa(t, "fake", nodestore.KoaOptions{GenerateID: func(*http.Request) (string, error) { return id, nil }})
		if res := w.ask("", sets("views", 1)); res.StatusCode != http.StatusInternalServerError || cookies(res) != "" {
			t.Errorf("%q: status %d", id, res.StatusCode)
		}
	}
}

func TestWrongOptionsAreRefusedByName(t *testing.T) {
	t.Parallel()
	now := time.Now
	for want, opts := range map[string]nodestore.ExpressOptions{
		"Secrets": {}, "Secrets[1]": {Secrets: session.Secrets("a", "")}, "Name": {Name: "a b", Secrets: session.Secrets("a")}, "User": {User: []string{""}, Secrets: session.Secrets("a")},
		"Cookie.Domain": {Cookie: nodestore.Cookie{Domain: "a\r\nb"}, Secrets: session.Secrets("a")}, "Cookie.Path": {Cookie: nodestore.Cookie{Path: "/;"}, Secrets: session.Secrets("a")},
		"Cookie.MaxAge": {Cookie: nodestore.Cookie{MaxAge: 1}, Secrets: session.Secrets("a")}, "Cookie.Secure": {Cookie: nodestore.Cookie{Secure: 9}, Secrets: session.Secrets("a")},
		"Cookie.SameSite": {Cookie: nodestore.Cookie{SameSite: "Lax"}, Secrets: session.Secrets("a")}, "Cookie.Priority": {Cookie: nodestore.Cookie{Priority: "top"}, Secrets: session.Secrets("a")},
	} {
		if _, err := nodestore.NewExpressAt(nil, opts, now); !errors.Is(err, session.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for want, opts := range map[string]nodestore.KoaOptions{
		"Keys": {}, "Keys[0]": {Keys: session.Secrets("")}, "Name": {Name: "a=b", Unsigned: true}, "Cookie.SameSite": {Unsigned: true, Cookie: nodestore.Cookie{SameSite: "auto"}},
	} {
		if _, err := nodestore.NewKoaAt(nil, opts, now); !errors.Is(err, session.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := nodestore.NewExpress(nil, nodestore.ExpressOptions{}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("without a store: %v", err)
	}
	if _, err := nodestore.NewKoa(nil, nodestore.KoaOptions{}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("without a store: %v", err)
	}
}
