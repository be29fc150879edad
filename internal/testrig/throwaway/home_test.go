package throwaway

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestAHomeIsInMemoryUnlessItIsDurableOrTMPDIRNamesAFolder(t *testing.T) {
	named := t.TempDir()
	for _, tt := range []struct {
		tmpdir  string
		durable bool
		want    string
	}{
		{"", false, memoryDir},
		{"", true, ""},
		{named, false, named},
		{named, true, named},
	} {
		t.Setenv("TMPDIR", tt.tmpdir)
		if tt.want == "" || tt.want == memoryDir && memoryFree() < roomInMemory {
			tt.want = os.TempDir()
		}
		home, err := NewHome(tt.durable)
		if err != nil {
			t.Fatal(err)
		}
		if got := filepath.Dir(home.Dir); got != tt.want {
			t.Errorf("TMPDIR=%q, durable %v: it is in %s, want %s", tt.tmpdir, tt.durable, got, tt.want)
		}
		if err := home.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestASweepRemovesTheHomesOfTheDeadAlone(t *testing.T) {
	t.Setenv("TMPDIR", "")
	for _, durable := range []bool{false, true} {
		var homes [2]*Home // the second one's process dies
		for i := range homes {
			var err error
			if homes[i], err = NewHome(durable); err != nil {
				t.Fatal(err)
			}
			defer homes[i].Close()
		}
		living, dead := homes[0], homes[1]
		if err := dead.owner.Close(); err != nil {
			t.Fatal(err)
		}
		Sweep(t.Context())
		if _, err := os.Stat(dead.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("durable %v: %v, and the dead one's is to be gone", durable, err)
		}
		if _, err := os.Stat(living.Dir); err != nil {
			t.Errorf("durable %v: %v of the living one", durable, err)
		}
	}
}
