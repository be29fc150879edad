package nodestore_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

func TestAReloadDropsTheChangesAndReadsAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, plainRow)
		w.ask(cookieA, func(t turn) {
			t.must("Set", t.s.Set("mine", 1))
			t.node(sidA, strings.Replace(plainRow, "7", "8", 1))
			t.must("Reload", t.s.Reload(t.ctx()))
			if views, err := nodestore.Value[int](t.s, "views"); views != 8 || err != nil || t.s.Raw("mine") != nil {
				t.Errorf("after it there are %d, %v and %s", views, err, t.s.Raw("mine"))
			}
			t.must("Set", t.s.Set("views", 9))
		})
		w.has(sidA, strings.Replace(plainRow, "7", "9", 1))
		w.ask(cookieA, func(t turn) {
			t.store.fail("save", errLost)
			t.must("Set", t.s.Set("views", 10))
			t.is("Save", t.s.Save(t.ctx()), session.ErrUnknown)
			t.store.fail("", nil)
			t.must("Reload", t.s.Reload(t.ctx()))
			t.must("Set", t.s.Set("views", 11))
		})
		w.has(sidA, strings.Replace(plainRow, "7", "11", 1))
		w.ask(cookieA, func(t turn) {
			_, err := t.store.rows.Destroy(t.ctx(), sidA)
			t.must("Destroy", err)
			t.is("Reload of what has ended", t.s.Reload(t.ctx()), session.ErrNotFound)
		})
		w.ask("", func(t turn) { t.is("Reload of what is not stored", t.s.Reload(t.ctx()), session.ErrNotFound) })
	})
}

func TestASessionTellsWhenItsCookieEnds(t *testing.T) {
	t.Parallel()
	e := express(t, "sqlite", nodestore.ExpressOptions{})
	k := koa(t, "sqlite", nodestore.KoaOptions{})
	for _, c := range []struct {
		w           *web
		cookie, row string
		left        time.Duration
		ends        bool
	}{
		{e, cookieA, plainRow, 0, false},
		{e, cookieA, lastingRow, 24 * time.Hour, true},
		{e, cookieA, `{"cookie":{"originalMaxAge":1000,"expires":false}}`, 0, false},
		{e, cookieA, `{"cookie":{"originalMaxAge":1000,"expires":"2030-01-01T01:00:00.123Z"}}`, time.Hour, true},
		{k, koaA, koaRow, 24 * time.Hour, true},
		{k, koaA, `{"cookie":{"maxAge":0}}`, 0, false},
		{k, koaA, `{"cookie":{"expires":"2030-01-01T01:00:00.123Z"}}`, time.Hour, true},
	} {
		c.w.node(sidA, c.row)
		c.w.ask(c.cookie, func(t turn) {
			at, ends := t.s.Expires()
			left, also := t.s.TimeLeft()
			if ends != c.ends || also != c.ends || left != c.left || ends && !at.Equal(frozen.Add(c.left)) {
				t.Errorf("%s: ends at %v, %v; in %v, %v", c.row, at, ends, left, also)
			}
		})
	}
}

func TestAllFlashesAreTakenAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, backend string) {
		w := express(t, backend, nodestore.ExpressOptions{})
		w.node(sidA, strings.Replace(plainRow, `"views":7`, `"flash":{"info":["a","b"],"error":["c",1],"empty":[]}`, 1))
		w.ask(cookieA, func(t turn) {
			all, err := nodestore.AllFlashes[string](t.s)
			if fmt.Sprint(all) != "map[error:[c] info:[a b]]" || err != nil {
				t.Errorf("all are %v, %v", all, err)
			}
			again, err := nodestore.AllFlashes[string](t.s)
			if len(again) != 0 || err != nil {
				t.Errorf("again %v, %v", again, err)
			}
		})
		if row := w.row(sidA); !strings.HasSuffix(row, `"flash":{"error":[1]}}`) {
			t.Errorf("the row is %s", row)
		}
		w.ask("", func(t turn) {
			if all, err := nodestore.AllFlashes[string](t.s); len(all) != 0 || err != nil {
				t.Errorf("of a new session: %v, %v", all, err)
			}
		})
	})
}

// As Express does after app.set('trust proxy', …).
func TestProxiesAreTrustedByTheirAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		proxies []string
		all     bool
		from    string
		want    bool
	}{
		{nil, false, "127.0.0.1:1", false},
		{nil, true, "203.0.113.9:1", true},
		{[]string{"loopback"}, false, "127.0.0.1:1", true},
		{[]string{"loopback"}, false, "[::1]:1", true},
		{[]string{"loopback"}, false, "[::ffff:127.0.0.1]:1", true},
		{[]string{"loopback"}, false, "10.0.0.1:1", false},
		{[]string{"linklocal", "uniquelocal"}, false, "192.168.7.7:1", true},
		{[]string{"linklocal", "uniquelocal"}, false, "[fe80::1%eth0]:1", true},
		{[]string{"linklocal", "uniquelocal"}, false, "203.0.113.9:1", false},
		{[]string{"203.0.113.0/24", "198.51.100.7"}, false, "203.0.113.9:1", true},
		{[]string{"203.0.113.0/24", "198.51.100.7"}, false, "198.51.100.7:1", true},
		{[]string{"203.0.113.0/24", "198.51.100.7"}, false, "198.51.100.8:1", false},
		{[]string{"loopback"}, false, "@", false},
	} {
		w := express(t, "fake", nodestore.ExpressOptions{TrustedProxies: c.proxies, TrustProxy: c.all, Cookie: nodestore.Cookie{Secure: nodestore.SecureAuto}})
		r := httptest.NewRequest(http.MethodGet, "http://example.com/", nil)
		r.RemoteAddr = c.from
		r.Header.Set("X-Forwarded-Proto", "https")
		if got := strings.Contains(cookies(w.serve(r, sets("a", 1))), "Secure"); got != c.want {
			t.Errorf("%v, %v: a request from %s came over HTTPS? %v", c.proxies, c.all, c.from, got)
		}
	}
	for _, bad := range []string{"", "localhost", "10.0.0.0/33", "loopback, 10.0.0.0/8"} {
		_, err := nodestore.NewExpressAt(&fakeRows{}, nodestore.ExpressOptions{Secrets: session.Secrets(secret), TrustedProxies: []string{bad}}, time.Now)
		if !errors.Is(err, session.ErrInvalid) || !strings.Contains(err.Error(), "TrustedProxies[0]") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
