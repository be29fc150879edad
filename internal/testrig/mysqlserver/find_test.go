package mysqlserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBinFromTheEnvironmentIsTheOnlyCandidate(t *testing.T) {
	empty := t.TempDir()
	for _, f := range Flavours() {
		t.Setenv(environmentName(f), empty)
		if _, err := Find(t.Context(), f); err == nil || errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), strings.ToUpper(string(f))+"_BIN="+empty) {
			t.Errorf("%s: got %v, want an error that names the variable", f, err)
		}
	}
}

func TestOneFlavourIsNotTakenForTheOther(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f Flavour) {
		found, err := Find(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		other := found
		other.Flavour = map[Flavour]Flavour{MariaDB: MySQL, MySQL: MariaDB}[f]
		if err := other.ask(t.Context()); err == nil || !strings.Contains(err.Error(), "is not "+string(other.Flavour)) {
			t.Errorf("got %v, want an error", err)
		}
		if found.Version == "" || !strings.Contains(found.Release, found.Version) {
			t.Errorf("got %+v", found)
		}
	})
}

func TestAnIncompleteUnpackedServerIsNotUsed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if _, err := inspectRoot(t.Context(), root); err == nil {
		t.Error("an empty folder was taken for a server")
	}
	lib := filepath.Join(root, "usr", "lib", "x86_64-linux-gnu")
	if err := os.MkdirAll(lib, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(lib, "ld-linux-x86-64.so.2"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := inspectRoot(t.Context(), root); err == nil {
		t.Error("a folder without programs was taken for a server")
	}
}
