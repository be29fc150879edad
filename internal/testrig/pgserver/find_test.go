package pgserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBinFromTheEnvironmentIsTheOnlyCandidate(t *testing.T) {
	skipWithoutPostgres(t)
	empty := t.TempDir()
	t.Setenv("PG_BIN", empty)
	if _, err := Find(t.Context()); err == nil || errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "PG_BIN="+empty) {
		t.Errorf("got %v, want an error that names PG_BIN", err)
	}
}

func TestFindPrefersTheHighestVersion(t *testing.T) {
	root := t.TempDir()
	for _, v := range []string{"9", "15", "18", "17"} {
		if err := os.MkdirAll(filepath.Join(root, v, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(root)
	got := strings.Join(versioned("*/bin"), " ")
	if want := "18/bin 17/bin 15/bin 9/bin"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMainClusterIsOnlySwitchedOffWhereNobodyDecided(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "common", "createcluster.conf")
	for range 2 {
		if err := noMainCluster(path); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(text), "create_main_cluster = false\n"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if err := os.WriteFile(path, []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := noMainCluster(path); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "# mine\n" {
		t.Errorf("the administrator's file was changed to %q", text)
	}
}
