package nodestore_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

func TestMadeUpSidsAreLookedUpSoOftenASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := koa(t, "fake", nodestore.KoaOptions{Unsigned: true})
		w.node(sidA, koaRow)
		began := time.Now()
		const forged = 1500
		for i := range forged {
			w.ask(fmt.Sprintf("koa.sid=made-up-%d", i), reads)
		}
		if took := time.Since(began); took < time.Second {
			t.Errorf("%d sids took %v; want that their rate is bounded", forged, took)
		}
		for range 2 {
			w.ask("koa.sid="+sidA, func(t turn) {
				if t.must("Session", t.err); t.s.IsNew() {
					t.Error("a session that exists is hidden")
				}
			})
		}
	})
}

func TestSidsThatHaveToBeSignedAreLookedUpAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := express(t, "fake", nodestore.ExpressOptions{})
		began := time.Now()
		for range 1500 {
			w.ask(cookieA, reads) // its session has ended
			w.ask("connect.sid=s%3Amade-up.c2lnbmF0dXJl", reads)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("they took %v", took)
		}
		if calls := strings.Fields(w.store.taken()); len(calls) != 1500 {
			t.Errorf("there were %d calls; want one for each that is signed", len(calls))
		}
	})
}

// It is not parallel: the default logger is everybody's.
func TestFailuresOfNodesTableAreHeardWithoutALogger(t *testing.T) {
	var out bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	defer slog.SetDefault(before)
	w := express(t, "fake", nodestore.ExpressOptions{})
	m, err := nodestore.NewExpressAt(w.store, nodestore.ExpressOptions{Secrets: session.Secrets(secret)}, w.clock.Now)
	w.must("NewExpressAt", err)
	w.m = m
	w.store.fail("get", errLost)
	if res := w.ask(cookieA, func(turn) {}); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d", res.StatusCode)
	}
	if text := out.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "method=GET path=/") {
		t.Errorf("slog got %q", text)
	}
}
