package sqlite

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestSettingsAreKeptByTheDatabase(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	ctx := t.Context()
	for _, set := range []Settings{{}, {RetireGrace: time.Hour}} {
		if _, err := SetSettings(ctx, db, Config{}, set); !errors.Is(err, ErrNotMigrated) {
			t.Errorf("before Up: %v; want ErrNotMigrated", err)
		}
	}
	hour := Config{Table: "hour", Settings: Settings{RetireGrace: time.Hour}}
	mustUp(t, db, hour)
	mustUp(t, db, Config{})
	mustUp(t, db, Config{Table: "hour", Settings: Settings{RetireGrace: time.Minute}})
	for _, c := range []struct {
		table string
		want  time.Duration
	}{{"hour", time.Hour}, {"", DefaultRetireGrace}} {
		if got, err := LoadSettings(ctx, db, Config{Table: c.table}); err != nil || got.RetireGrace != c.want {
			t.Errorf("%q: %+v, %v; want %v", c.table, got, err, c.want)
		}
	}
	if got, err := SetSettings(ctx, db, hour, Settings{}); err != nil || got != hour.Settings {
		t.Errorf("nothing set: %+v, %v", got, err)
	}
	for _, grace := range []time.Duration{MaxRetireGrace, MinRetireGrace} {
		if got, err := SetSettings(ctx, db, hour, Settings{RetireGrace: grace}); err != nil || got.RetireGrace != grace {
			t.Errorf("set: %+v, %v; want %v", got, err, grace)
		}
	}
	for what, grace := range map[string]time.Duration{
		"is 59s; it must be from 1m0s to 87600h0m0s": 59 * time.Second,
		"is -1ns": -1,
		"is 2562047h47m16.854775807s; it must be from": 1<<63 - 1,
		"must be a multiple of 1s":                     time.Hour + 1,
	} {
		bad := Settings{RetireGrace: grace}
		_, errSet := SetSettings(ctx, db, hour, bad)
		_, errSQL := SQL(Config{Settings: bad})
		for _, err := range []error{errSet, errSQL, Up(ctx, db, Config{Settings: bad}), Validate(ctx, db, Config{Settings: bad})} {
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "Settings.RetireGrace") || !strings.Contains(err.Error(), what) {
				t.Errorf("%v; want ErrInvalid with %q", err, what)
			}
		}
	}
}
