package migrations

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestBadConfigurationNamesTheFieldAndTheLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cfg  Config
		want []string
	}{
		{Config{Schema: strings.Repeat("s", 64)}, []string{"Schema", "64", "63"}},
		{Config{Table: strings.Repeat("字", 22)}, []string{"Table", "66", "63"}},
		{Config{Schema: "a\xff"}, []string{"Schema", "UTF-8"}},
		{Config{Table: "a\x00b"}, []string{"Table", "NUL"}},
		{Config{Roles: Roles{Owner: strings.Repeat("r", 64)}}, []string{"Roles.Owner", "64", "63"}},
		{Config{Roles: Roles{App: "a\x00"}}, []string{"Roles.App", "NUL"}},
		{Config{Roles: Roles{Owner: "a", App: "a"}}, []string{"Roles.Owner", "Roles.App"}},
		{Config{Roles: Roles{Maintainer: "m"}}, []string{"Roles.Maintainer", "Roles.Owner"}},
		{Config{Settings: Settings{LongestLifetime: -1}}, []string{"LongestLifetime", "1h0m0s", "87600h"}},
		{Config{Settings: Settings{LongestLifetime: MaxLifetime + 1}}, []string{"LongestLifetime"}},
		{Config{Settings: Settings{LongestLifetime: 90 * 60e9}}, []string{"LongestLifetime", "1h30m0s", "multiple of 1h"}},
		{Config{Settings: Settings{PartitionWidth: 60e9}}, []string{"PartitionWidth"}},
		{Config{Settings: Settings{PartitionWidth: 3 * time.Hour}}, []string{"PartitionWidth", "3h", "248", "200"}},
		{Config{Settings: Settings{Lease: 99e6}}, []string{"Lease", "100ms", "1m0s"}},
		{Config{Settings: Settings{Lease: 61e9}}, []string{"Lease", "1m1s"}},
		{Config{Settings: Settings{Lease: 100e6 + 1}}, []string{"Lease", "multiple of 1ms"}},
	} {
		_, err := SQL(c.cfg)
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: got %v, want ErrInvalid", c.cfg, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
		// It is found out before anything is sent: nobody listens there.
		if err := Up(t.Context(), parse(t, "postgres://127.0.0.1:1/x"), c.cfg); !errors.Is(err, ErrInvalid) {
			t.Errorf("Up: got %v, want ErrInvalid", err)
		}
		if err := Validate(t.Context(), nil, c.cfg); !errors.Is(err, ErrInvalid) {
			t.Errorf("Validate: got %v, want ErrInvalid", err)
		}
	}
	if err := Up(t.Context(), nil, Config{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no configuration of a connection: got %v", err)
	}
	if _, err := NamesOf("", "t"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "Schema is empty") {
		t.Errorf("got %v", err)
	}
}

func TestOldServersAreRefused(t *testing.T) {
	t.Parallel()
	for version, want := range map[int]string{130022: "PostgreSQL 13", 90624: "PostgreSQL 9"} {
		if err := checkVersion(version); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: got %v", version, err)
		}
	}
	for _, version := range []int{140000, 180004} {
		if err := checkVersion(version); err != nil {
			t.Errorf("%d: %v", version, err)
		}
	}
}

func TestPartitionCommentsAreReadBack(t *testing.T) {
	t.Parallel()
	for _, name := range strangeNames {
		n, err := NamesOf(name.schema, name.table)
		if err != nil {
			t.Fatal(err)
		}
		lo, hi, ok := n.ParsePartitionComment(n.PartitionComment(-12, 2147483647))
		if !ok || lo != -12 || hi != 2147483647 {
			t.Errorf("%q: got %d, %d, %v", n.Table, lo, hi, ok)
		}
	}
	n, err := NamesOf("s", "t")
	if err != nil {
		t.Fatal(err)
	}
	for _, comment := range []string{
		"", "sojourn partition of s.t: ", "sojourn partition of s.t: 1 to 1", "sojourn partition of s.t: 2 to 1", "sojourn partition of s.t: 1 to 2 ",
		"sojourn partition of s.tt: 1 to 2", " sojourn partition of s.t: 1 to 2", "sojourn partition of s.t: 1 to 99999999999", "sojourn partition of s.t: 1 to 3000000000",
	} {
		if lo, hi, ok := n.ParsePartitionComment(comment); ok {
			t.Errorf("%q was read as %d to %d", comment, lo, hi)
		}
	}
}
