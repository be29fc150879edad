package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAFailedStepFailsTheReport(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := newReport(&out, true)
	fine := func(context.Context) (string, error) { return "seen", nil }
	if !r.step(t.Context(), "one", time.Minute, fine) || !r.end() {
		t.Error("a step that went well is reported as failed")
	}
	if r.step(t.Context(), "two", time.Minute, func(context.Context) (string, error) {
		return "", errors.New("first line\n\tsecond line")
	}) {
		t.Error("a step that failed is reported as well done")
	}
	r.step(t.Context(), "three", time.Minute, func(context.Context) (string, error) { return "", notTried("not here") })
	r.step(t.Context(), "four", 10*time.Millisecond, func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", errors.New("no answer")
	})
	cancelled, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("told to stop"))
	r.step(cancelled, "five", time.Minute, fine)
	if r.end() || r.steps != 5 || r.failed != 3 {
		t.Errorf("%d of %d failed", r.failed, r.steps)
	}
	got := outcomes(t, out.String())
	for i, want := range []outcome{
		{Name: "one", OK: true, Detail: "seen"},
		{Name: "two", Detail: "first line second line"},
		{Name: "three", OK: true, Detail: "not here", Skipped: true},
		{Name: "four", Detail: "not done within 10ms: no answer"},
		{Name: "five", Detail: "told to stop"},
	} {
		got[i].Milliseconds = 0
		if got[i] != want {
			t.Errorf("got %+v, want %+v", got[i], want)
		}
	}
}

func TestTheReportForPeopleIsALineForEachStep(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := newReport(&out, false)
	r.step(t.Context(), "one", time.Minute, func(context.Context) (string, error) { return "seen", nil })
	r.step(t.Context(), "two", time.Minute, func(context.Context) (string, error) { return "", errors.New("a\nb") })
	r.end()
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], "ok    one ") || !strings.HasSuffix(lines[1], "   a b") ||
		!strings.HasPrefix(lines[1], "FAIL  two ") || !strings.HasPrefix(lines[3], "steps: 2, failed: 1, ") {
		t.Errorf("%q", lines)
	}
}
