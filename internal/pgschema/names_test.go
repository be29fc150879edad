package pgschema

import (
	"strings"
	"testing"
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
			"meta": n.metaTable, "version": n.versionTable, "function": n.makePartition, "primary key": n.PrimaryKey,
			"index": n.UserIndex, "meta key": n.MetaKey, "partition": n.PartitionPrefix + "2147483647_999",
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

// One pattern names all that belongs to a table.
func TestNamesBeginWithTheTables(t *testing.T) {
	t.Parallel()
	n, err := NamesOf(DefaultSchema, "logins")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{n.metaTable, n.versionTable, n.makePartition, n.PartitionPrefix, n.PrimaryKey, n.UserIndex, n.MetaKey} {
		if !strings.HasPrefix(name, "logins_") {
			t.Errorf("%q does not begin with the table's name", name)
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
		for _, name := range []string{n.metaTable, n.versionTable, n.makePartition, n.PrimaryKey, n.UserIndex, n.MetaKey, n.PartitionPrefix + "2147483647_999"} {
			if len(name) > 63 || !utf8.ValidString(name) {
				t.Errorf("%q: %d bytes", name, len(name))
			}
		}
	})
}
