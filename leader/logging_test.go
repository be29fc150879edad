package leader_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

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

func TestWhatFlapsIsSaidNowAndThen(t *testing.T) {
	t.Parallel()
	const hours = 4
	for name, flap := range map[string]func(server *fakeServer, i int){
		"it leads and loses at once": func(server *fakeServer, i int) {
			server.breakHolder()
			advance(2 * time.Second)
		},
		"it leads for a while and loses": func(server *fakeServer, i int) {
			server.breakHolder()
			advance(20 * time.Second)
		},
		"it can compete, and cannot": func(server *fakeServer, i int) {
			server.set(faults{open: fmt.Errorf("refused at port %d", i)})
			server.breakHolder()
			advance(3 * time.Second)
			server.set(faults{})
			advance(3 * time.Second)
		},
		"the reasons take turns": func(server *fakeServer, i int) {
			server.set(faults{open: []error{errors.New("refused"), errors.New("no route")}[i%2]})
			server.breakHolder()
			advance(3 * time.Second)
			server.set(faults{})
			advance(20 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := newFakeServer()
				core, logs := observer.New(zapcore.InfoLevel)
				stop := start(t, server, leader.Options{Logger: zap.New(core)}, untilEnd)
				advance(time.Minute)
				began, flaps := time.Now(), 0
				for ; time.Since(began) < hours*time.Hour; flaps++ {
					flap(server, flaps)
				}
				// A pair of lines for each of two reasons, at most every five minutes.
				if n, most := logs.Len(), 20+hours*12*6; n < 3 || n > most {
					t.Errorf("%d lines for %d flaps in %d hours, want from 3 to %d", n, flaps, hours, most)
				}
				server.set(faults{open: errors.New("something else")})
				server.breakHolder()
				advance(time.Hour)
				said := logs.Filter(func(e observer.LoggedEntry) bool {
					return e.ContextMap()["error"] == "leader: connect: something else"
				})
				if said.Len() != 1 {
					t.Errorf("a new reason was said %d times, want once", said.Len())
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
