package reqsession

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func observed() (*Log, *observer.ObservedLogs) {
	core, seen := observer.New(zapcore.DebugLevel)
	return NewLog(zap.New(core)), seen
}

func TestAnOutageIsToldAtOnceAndThenCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, seen := observed()
		r := httptest.NewRequest(http.MethodPost, "/cart", nil)
		l.Tell(zapcore.ErrorLevel, "request failed", "503", r)
		if entries := seen.All(); len(entries) != 1 || entries[0].ContextMap()["method"] != "POST" || entries[0].ContextMap()["path"] != "/cart" {
			t.Fatalf("the log has %+v; want the first at once", entries)
		}
		const each, seconds = 1000, 300
		for range each * seconds {
			time.Sleep(time.Second / each)
			l.Tell(zapcore.ErrorLevel, "request failed", "503", r)
		}
		time.Sleep(countEvery)
		l.Count() // by a request that succeeds
		told := 0
		for _, entry := range seen.All() {
			told++
			if more, ok := entry.ContextMap()["more"].(int64); ok {
				told += int(more)
			}
		}
		if n := seen.Len(); n > seconds/10+2 || told < each*seconds || told > each*seconds+seen.Len() {
			t.Errorf("%d lines tell of %d; there were %d", n, told, each*seconds+1)
		}
		before := seen.Len()
		time.Sleep(time.Hour)
		l.Count()
		if seen.Len() != before {
			t.Error("it counts what there was not")
		}
		l.Tell(zapcore.ErrorLevel, "request failed", "503", r)
		if seen.Len() != before+1 {
			t.Error("the next outage is not told at once")
		}
	})
}

func TestAnotherKindIsToldAtOnce(t *testing.T) {
	t.Parallel()
	l, seen := observed()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for range 10 {
		l.Tell(zapcore.ErrorLevel, "request failed", "503", r)
		l.Tell(zapcore.ErrorLevel, "request failed", "409", r)
		l.Tell(zapcore.WarnLevel, "touch failed", "", r)
	}
	if seen.Len() != 3 {
		t.Errorf("there are %d lines; want 3", seen.Len())
	}
	for n := range 10_000 {
		l.Tell(zapcore.WarnLevel, "made up", fmt.Sprint(n), r)
	}
	if n := len(l.kinds); n > mostKinds+1 || seen.Len() > mostKinds+1 {
		t.Errorf("%d kinds are kept, with %d lines", n, seen.Len())
	}
}

func TestAPlaceHasNoSecretInIt(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("aB3_", 8)
	for target, want := range map[string]string{
		"/a/b":                       "/a/b",
		"/a?token=" + secret:         "/a",
		"/reset/" + secret + "/form": "/reset/…/form",
		"/" + secret:                 "/…",
		"/%ff":                       "/?",
	} {
		if got := place(httptest.NewRequest(http.MethodGet, target, nil)); got != want {
			t.Errorf("%s: %q; want %q", target, got, want)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/reset/1234", nil)
	r.Pattern = "GET /reset/{token}"
	if got := place(r); got != r.Pattern {
		t.Errorf("with a pattern: %q", got)
	}
	if got := place(httptest.NewRequest(http.MethodGet, strings.Repeat("/a", 10_000), nil)); len(got) > 200 {
		t.Errorf("a long path has %d bytes in the log", len(got))
	}
}

func TestAHookThatPanicsIsTold(t *testing.T) {
	t.Parallel()
	l, seen := observed()
	var got []int
	Emit(t.Context(), func(_ context.Context, n int) {
		if got = append(got, n); n == 1 {
			panic("oops")
		}
	}, l, httptest.NewRequest(http.MethodGet, "/", nil), []int{1, 2})
	if fmt.Sprint(got) != "[1 2]" {
		t.Errorf("the hook got %v", got)
	}
	if seen.Len() != 1 || seen.All()[0].ContextMap()["panic"] != "oops" {
		t.Errorf("the log has %+v", seen.All())
	}
	Emit[int](t.Context(), nil, l, nil, []int{1})
}
