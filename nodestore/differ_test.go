package nodestore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

func TestASettingThatIsNotNodesIsToldOnce(t *testing.T) {
	t.Parallel()
	wrong := session.Secrets("another secret")
	for what, tt := range map[string]struct {
		express nodestore.ExpressOptions
		koa     nodestore.KoaOptions
		row     string // of the Express application
		koaRow  string
		lasts   time.Duration
		want    string
	}{
		"secret":   {express: nodestore.ExpressOptions{Secrets: wrong}, koa: nodestore.KoaOptions{Keys: wrong}, want: "No secret verifies"},
		"name":     {express: nodestore.ExpressOptions{Name: "sid"}, koa: nodestore.KoaOptions{Name: "sid"}, want: "The name of the cookie"},
		"table":    {want: "The table or the prefix"},
		"maxAge":   {row: lastingRow, koaRow: strings.Replace(koaRow, "86400000", "3600000", 1), want: "cookie.maxAge"},
		"ttl":      {row: plainRow, koaRow: koaRow, lasts: 7 * 24 * time.Hour, want: "ttl, expiration"},
		"no other": {row: plainRow, koaRow: koaRow, lasts: 24 * time.Hour},
	} {
		for _, kind := range []string{"express", "koa"} {
			w, cookie, row := (*web)(nil), cookieA, tt.row
			if kind == "express" {
				w = express(t, "sqlite", tt.express)
			} else {
				w, cookie, row = koa(t, "sqlite", tt.koa), koaA, tt.koaRow
			}
			if row != "" {
				var opts []nodestore.SetOption
				if tt.lasts > 0 {
					opts = append(opts, nodestore.TTL(tt.lasts))
				}
				w.must("Set", w.store.Set(t.Context(), sidA, []byte(row), opts...))
			}
			for range 30 {
				w.ask(cookie, func(t turn) { t.must("Session", t.err) })
			}
			var told []string
			for _, entry := range w.logs.FilterLevelExact(zapcore.WarnLevel).All() {
				told = append(told, entry.Message)
				if text := fmt.Sprint(entry.ContextMap()); strings.Contains(text, sidA) || strings.Contains(text, secret) {
					t.Errorf("%s, %s: the log has a secret: %s", what, kind, text)
				}
			}
			if tt.want == "" && len(told) > 0 || tt.want != "" && (len(told) != 1 || !strings.Contains(told[0], tt.want)) {
				t.Errorf("%s, %s: told %q, want one about %q", what, kind, told, tt.want)
			}
		}
	}
	// What others sign, and forged cookies among genuine ones, are no difference.
	w := express(t, "sqlite", nodestore.ExpressOptions{})
	w.node(sidA, plainRow)
	w.ask(cookieA, reads)
	w.ask(cookieA+"x", reads)
	w.ask("basket=s%3A42."+nodestore.ExpressValue(secret, "42")[len("s%3A42."):], reads)
	if n := w.logs.FilterLevelExact(zapcore.WarnLevel).Len(); n != 0 {
		t.Errorf("%d warnings: %v", n, w.logs.All())
	}
}

func TestAPrefixThatNoRowHasIsTold(t *testing.T) {
	t.Parallel()
	w := express(t, "sqlite", nodestore.ExpressOptions{})
	open := func(prefix string) int {
		t.Helper()
		core, logs := observer.New(zap.WarnLevel)
		layout := nodestore.ConnectSQLite()
		layout.IDPrefix = prefix
		s, err := nodestore.New(t.Context(), w.db, layout, nodestore.Options{PruneInterval: -1, Logger: zap.New(core)})
		w.must("New", err)
		w.must("Close", s.Close(t.Context()))
		return logs.FilterMessageSnippet("Layout.IDPrefix").Len()
	}
	if n := open("other:"); n != 0 {
		t.Errorf("%d warnings about an empty table", n)
	}
	w.node(sidA, plainRow)
	for prefix, want := range map[string]int{"sess:": 0, "": 0, "other:": 1, "sess:x": 1, "a": 1, "zz": 1} {
		if n := open(prefix); n != want {
			t.Errorf("%q: %d warnings, want %d", prefix, n, want)
		}
	}
}
