package logging

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// heard is the default logger of log/slog for the time of a test, which
// therefore runs alone.
func heard(t *testing.T, level slog.Level) *bytes.Buffer {
	t.Helper()
	out := new(bytes.Buffer)
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	slog.SetDefault(slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				if age := time.Since(a.Value.Time()); age < 0 || age > time.Hour {
					t.Errorf("the entry is %v old", age)
				}
				return slog.Attr{}
			}
			return a
		},
	})))
	return out
}

func TestWithoutALoggerWarningsAndErrorsReachSlog(t *testing.T) {
	out := heard(t, slog.LevelDebug)
	log := Or(nil)
	log.Debug("not told")
	log.Info("not told")
	log.Warn("slow", zap.Int("attempts", 3), zap.Duration("took", time.Second))
	log.Error("broken", zap.Error(errors.Join(errors.New("a"), errors.New("b"))), zap.Error(nil))
	log.DPanic("impossible")
	want := `level=WARN msg=slow attempts=3 took=1s
level=ERROR msg=broken error="a\nb"
level=ERROR msg=impossible
`
	if got := out.String(); got != want {
		t.Errorf("slog got\n%swant\n%s", got, want)
	}
}

func TestTheDefaultOfSlogIsLookedUpWhenLogging(t *testing.T) {
	log := Or(nil).With(zap.String("node", "a"))
	out := heard(t, slog.LevelDebug)
	log.Warn("late")
	if got, want := out.String(), "level=WARN msg=late node=a\n"; got != want {
		t.Errorf("slog got %q, want %q", got, want)
	}
}

func TestTheLevelOfSlogCounts(t *testing.T) {
	out := heard(t, slog.LevelError)
	log := Or(nil)
	log.Warn("not told")
	log.Error("told")
	if got, want := out.String(), "level=ERROR msg=told\n"; got != want {
		t.Errorf("slog got %q, want %q", got, want)
	}
}

type object struct{}

func (object) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("b", "2")
	enc.AddInt("a", 1)
	return nil
}

func TestFieldsKeepTheirOrderNamesAndGroups(t *testing.T) {
	out := heard(t, slog.LevelDebug)
	log := Or(nil).Named("pool").Named("lane").With(zap.String("z", "first"))
	// Both come from one logger: what one adds is not the other's.
	one, two := log.With(zap.Int("one", 1)), log.With(zap.Int("two", 2))
	one.Warn("x", zap.Strings("names", []string{"a", "b"}), zap.Inline(object{}), zap.Skip())
	two.Warn("y", zap.Namespace("in"), zap.Bool("c", true), zap.NamedError("cause", errors.New("e")))
	want := `level=WARN msg=x logger=pool.lane z=first one=1 names="[a b]" a=1 b=2
level=WARN msg=y logger=pool.lane z=first two=2 in.c=true in.cause=e
`
	if got := out.String(); got != want {
		t.Errorf("slog got\n%swant\n%s", got, want)
	}
}

func TestALoggerThatWasGivenStays(t *testing.T) {
	out := heard(t, slog.LevelDebug)
	core, seen := observer.New(zapcore.DebugLevel)
	Or(zap.New(core)).Error("told")
	Or(zap.NewNop()).Error("not told")
	if n := seen.Len(); n != 1 {
		t.Errorf("the logger got %d entries, want 1", n)
	}
	if s := strings.TrimSpace(out.String()); s != "" {
		t.Errorf("slog got %q, want nothing", s)
	}
}
