package node

import (
	"context"
	"database/sql"
	"testing"

	"github.com/sojourn-go/sojourn/nodestore"
)

// The checks of one pair run one after the other; those at the end need the
// table for themselves.
var checks = []struct {
	name string
	do   func(*testing.T, pair)
}{
	{"Go reads what Node writes", goReadsWhatNodeWrites},
	{"Node reads what Go writes", nodeReadsWhatGoWrites},
	{"both write the same row", bothWriteTheSameRow},
	{"both touch", bothTouch},
	{"both destroy", bothDestroy},
	{"what expired is dead for Go", expiredIsDeadForGo},
	{"Go does not overwrite what Node wrote", goDoesNotOverwriteNode},
	{"Go does not bring back what Node destroyed", goBringsNothingBack},
	{"Node overwrites blindly and brings back", nodeWritesBlindly},
	{"no change of Go is lost beside Node's touches", noChangeOfGoIsLost},
	{"no change of Node is lost to Go", noChangeOfNodeIsLost},
	{"savers of Go end when Node destroys", saversEndWhenNodeDestroys},
	{"both prune", bothPrune},
	{"both list, count and clear", bothListAndClear},
}

func TestGoAndNodeShareATable(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			needNode(t)
			db := k.database(t)
			p := pair{kind: k, sql: db.open(t)}
			p.node = startDriver(t, k, db) // makes the table
			p.store = openStore(t, p.sql, k.layout, k.options())
			if k.does.checks {
				t.Run("both refuse what the column cannot hold", func(t *testing.T) { bothRefuseWhatTheColumnCannotHold(t, p) })
			}
			for _, check := range checks {
				t.Run(check.name, func(t *testing.T) { check.do(t, p) })
			}
		})
	}
}

// The tables that Go makes are the packages' own.
func TestNodeUsesATableThatGoMade(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		if k.extra != nil || k.does.reprints {
			continue // the application has made the table
		}
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			needNode(t)
			db := k.database(t)
			p := pair{kind: k, sql: db.open(t)}
			opts := k.options()
			opts.CreateTable = true
			p.store = openStore(t, p.sql, k.layout, opts)
			p.node = startDriver(t, k, db)
			nodeReadsWhatGoWrites(t, p)
			bothPrune(t, p)
		})
	}
}

// options leave the pruning to the tests.
func (k kind) options() nodestore.Options {
	return nodestore.Options{PruneInterval: -1, Extra: k.extra}
}

func openStore(t testing.TB, db *sql.DB, layout nodestore.Layout, opts nodestore.Options) *nodestore.Store {
	t.Helper()
	store, err := nodestore.New(t.Context(), db, layout, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := store.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return store
}
