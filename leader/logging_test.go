package leader_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/sojourn/leader"
)

func TestWithoutALoggerThatNobodyCanLeadIsHeard(t *testing.T) { // alone: it sets slog's default
	out := new(bytes.Buffer)
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(out, nil)))

	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		server.set(faults{open: errors.New("no such host")})
		stop := start(t, server, leader.Options{}, untilEnd)
		advance(time.Hour)
		if err := stop(); err != nil {
			t.Errorf("got %v, want nil", err)
		}
	})
	const want = `level=WARN msg="leader: cannot compete" error="leader: connect: no such host"`
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) {
		t.Errorf("slog got %q, want one line with %q", got, want)
	}
}
