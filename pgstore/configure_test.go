package pgstore

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestAPoolThatWaitsForEverIsWarnedOfOnce(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	for configured, want := range map[bool]int{false: 1, true: 0} {
		core, logs := observer.New(zap.WarnLevel)
		p.node(t, Options{Logger: zap.New(core)}, 2, func(c *pgxpool.Config) {
			if configured {
				ConfigurePool(c)
			}
		})
		if n := logs.FilterMessageSnippet("pgstore.ConfigurePool").Len(); n != want {
			t.Errorf("configured %t: %d warnings, want %d", configured, n, want)
		}
	}
}

func TestOptionsPrintNoPassword(t *testing.T) {
	t.Parallel()
	opts := Options{DirectDSN: "postgres://ann:geheim@localhost/db"}
	text, err := json.Marshal(map[string]any{"a": opts, "b": &opts})
	for _, printed := range []string{fmt.Sprintf("%v %+v %#v %s %q", opts, opts, &opts, opts, []Options{opts}), string(text), fmt.Sprint(err)} {
		if strings.Contains(printed, "geheim") {
			t.Errorf("printed: %s", printed)
		}
	}
}
