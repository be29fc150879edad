package migrations

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestDerivedNamesFitAndDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, table := range []string{
		"sessions", "t", strings.Repeat("t", 63), strings.Repeat("t", 62) + "u", strings.Repeat("t", 54), strings.Repeat("t", 58), strings.Repeat("t", 59),
		strings.Repeat("字", 21), strings.Repeat("字", 20) + "abc", strings.Repeat("😀", 15) + "abc", "a" + strings.Repeat("é", 31),
	} {
		n, err := NamesOf("s", table)
		if err != nil {
			t.Fatal(err)
		}
		for what, name := range map[string]string{
			"meta": n.metaTable, "version": n.versionTable, "function": n.makePartition, "primary key": n.primaryKey,
			"index": n.userIndex, "meta key": n.metaKey, "partition": n.PartitionPrefix + "2147483647_999",
		} {
			if len(name) > 63 || !utf8.ValidString(name) {
				t.Errorf("%s of %q is %q: %d bytes", what, table, name, len(name))
			}
			if other, ok := seen[name]; ok {
				t.Errorf("%q is both the %s of %q and the %s", name, what, table, other)
			}
			seen[name] = what + " of " + table
		}
	}
}

func TestNamesStayWhatTheyAre(t *testing.T) {
	t.Parallel()
	n, err := NamesOf("sojourn", "sessions")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want string }{
		{n.Sessions, `"sojourn"."sessions"`},
		{n.Meta, `"sojourn"."sessions_meta"`},
		{n.MakePartition, `"sojourn"."sessions_make_partition"`},
		{n.Version, `"sojourn"."sessions_version"`},
		{n.PartitionPrefix, "sessions_"},
		{n.Qualify(`a"b`), `"sojourn"."a""b"`},
		{n.PartitionComment(-5, 83), "sojourn partition of sojourn.sessions: -5 to 83"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
	other, err := NamesOf("sojournsess", "ions")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[int64]bool{n.MigrateKey: true, n.DDLKey: true, other.MigrateKey: true, other.DDLKey: true}
	if len(keys) != 4 {
		t.Errorf("lock keys are shared: %v", keys)
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

func TestDefaultSettingsGiveNinePartitions(t *testing.T) {
	t.Parallel()
	for hours, width := range map[int]int{720: 83, 1: 3, 24: 6, 100: 14, 87600: 9736} {
		got := Settings{LongestLifetime: time.Duration(hours) * time.Hour}.withDefaults()
		if got.PartitionWidth != time.Duration(width)*time.Hour {
			t.Errorf("longest %d h: width is %s, want %d h", hours, got.PartitionWidth, width)
		}
	}
	got := Settings{}.withDefaults()
	if want := (Settings{LongestLifetime: time.Duration(720) * time.Hour, PartitionWidth: time.Duration(83) * time.Hour, Lease: 2e9}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
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

func FuzzDerivedNamesFit(f *testing.F) {
	f.Add("sessions")
	f.Add(strings.Repeat("😀", 15) + "abc")
	f.Fuzz(func(t *testing.T, table string) {
		n, err := NamesOf("s", table)
		if err != nil {
			return
		}
		for _, name := range []string{n.metaTable, n.versionTable, n.makePartition, n.primaryKey, n.userIndex, n.metaKey, n.PartitionPrefix + "2147483647_999"} {
			if len(name) > 63 || !utf8.ValidString(name) {
				t.Errorf("%q: %d bytes", name, len(name))
			}
		}
	})
}
