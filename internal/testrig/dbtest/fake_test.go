package dbtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/mysqlserver"
	"github.com/sojourn-go/sojourn/internal/testrig/pgserver"
)

// fake is a test that may fail or be skipped without consequences.
type fake struct {
	testing.TB
	failed, skipped bool
	text            string
}

func (f *fake) Helper()                  {}
func (f *fake) Context() context.Context { return f.TB.Context() }
func (f *fake) Errorf(format string, args ...any) {
	f.failed, f.text = true, fmt.Sprintf(format, args...)
}
func (f *fake) Fatal(args ...any) { f.failed, f.text = true, fmt.Sprint(args...); panic(f) }
func (f *fake) Skipf(format string, args ...any) {
	f.skipped, f.text = true, fmt.Sprintf(format, args...)
	panic(f)
}

func try(t *testing.T, do func(testing.TB)) (f *fake) {
	f = &fake{TB: t}
	defer func() {
		if r := recover(); r != nil && r != any(f) {
			panic(r)
		}
	}()
	do(f)
	return f
}

func TestMissingPostgresSkipsLocallyAndFailsInCI(t *testing.T) {
	notThere := fmt.Errorf("start: %w", pgserver.ErrNotInstalled)
	broken := errors.New("out of disk space")
	for _, tt := range []struct {
		ci             string
		err            error
		skipped, fails bool
	}{
		{"", notThere, true, false},
		{"true", notThere, false, true},
		{"", broken, false, true},
	} {
		t.Setenv("CI", tt.ci)
		got := try(t, func(tb testing.TB) { missing(tb, tt.err, pgserver.ErrNotInstalled, "do this") })
		if got.skipped != tt.skipped || got.failed != tt.fails {
			t.Errorf("CI=%q, %v: skipped %v and failed %v, want %v and %v", tt.ci, tt.err, got.skipped, got.failed, tt.skipped, tt.fails)
		}
		if !strings.Contains(got.text, tt.err.Error()) || tt.skipped && !strings.Contains(got.text, "do this") {
			t.Errorf("CI=%q, %v: the message is %q", tt.ci, tt.err, got.text)
		}
	}
}

func TestASharedServerCannotBeEndedByATest(t *testing.T) {
	t.Parallel()
	for kind, control := range map[string]func(testing.TB) Control{
		"postgres": func(tb testing.TB) Control { return Postgres(tb).Control },
		"mariadb":  func(tb testing.TB) Control { return MariaDB(tb).Control },
	} {
		for name, do := range map[string]func(Control){
			"stop": Control.Stop, "kill": Control.Kill, "pause": Control.Pause, "freeze": Control.Freeze, "resume": Control.Resume,
			"restart": func(c Control) { c.Restart(c.t) },
		} {
			if got := try(t, func(tb testing.TB) { do(control(tb)) }); !got.failed {
				t.Errorf("%s, %s: no complaint", kind, name)
			}
		}
	}
	if err := Conn(t, Postgres(t).DSN("postgres")).Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := DB(t, MariaDB(t).DSN("mysql"), nil).PingContext(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMissingMySQLIsSkippedInCIAndMissingMariaDBIsNot(t *testing.T) {
	t.Setenv("CI", "true")
	notThere := fmt.Errorf("start: %w", mysqlserver.ErrNotInstalled)
	broken := errors.New("out of disk space")
	for _, tt := range []struct {
		flavour        mysqlserver.Flavour
		err            error
		skipped, fails bool
	}{
		{mysqlserver.MySQL, notThere, true, false},
		{mysqlserver.MySQL, broken, false, true},
		{mysqlserver.MariaDB, notThere, false, true},
	} {
		got := try(t, func(tb testing.TB) { missingMySQL(tb, tt.flavour, tt.err) })
		if got.skipped != tt.skipped || got.failed != tt.fails || !strings.Contains(got.text, tt.err.Error()) {
			t.Errorf("%s, %v: skipped %v and failed %v with %q, want %v and %v", tt.flavour, tt.err, got.skipped, got.failed, got.text, tt.skipped, tt.fails)
		}
	}
}

func TestEventuallyTriesUntilItHolds(t *testing.T) {
	t.Parallel()
	n := 0
	Eventually(t, "the third try", func() bool { n++; return n == 3 })
	if n != 3 {
		t.Errorf("%d tries, want 3", n)
	}
}
