package adapters

import (
	"testing"

	"github.com/alexedwards/scs/v2"

	"github.com/sojourn-go/sojourn/adapters/scsstore"
	"github.com/sojourn-go/sojourn/session"
)

// What docs/adapters.md shows.
func TestDocumentedLines(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(testing.TB, session.Store) error{"scs": documentedSCS} {
		if err := run(t, inMemory(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func documentedSCS(t testing.TB, sessions session.Store) error {
	store, err := scsstore.New(sessions, scsstore.Options{})
	if err != nil {
		return err
	}
	manager := scs.New()
	manager.Store = store

	a := newSCS(t, manager.Store, nil)
	a.says("/who", a.login("alice"), "alice")
	return nil
}
