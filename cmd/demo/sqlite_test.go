package main

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
)

// newFileNode is a node's HTTP side with a store on a file of its own.
func newFileNode(t *testing.T) http.Handler {
	t.Helper()
	conf := nodeConfig{Store: "sqlite", Name: "node 1", DSN: filepath.Join(t.TempDir(), "sessions.db")}
	o, err := openSQLiteNode(t.Context(), conf, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := o.close(ctx); err != nil {
			t.Error(err)
		}
	})
	s, err := newServer(conf, o, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return s.handler()
}

func TestAStoreWithoutAMemoryDoesAtOnceWhatOthersMayDoLater(t *testing.T) {
	t.Parallel()
	h := newFileNode(t)
	var before, touched, after view
	id := ask(t, h, "POST", "/login?user=alice", "", nil, &before)
	ask(t, h, "POST", "/touch?later=1", id, nil, &touched)
	ask(t, h, "GET", "/me?fresh=1", id, nil, &after)
	if !touched.Expires.After(before.Expires) || !after.Expires.Equal(touched.Expires) {
		t.Errorf("the idle timeout was %v; the touch said %v, and it is %v", before.Expires, touched.Expires, after.Expires)
	}
	ask(t, h, "POST", "/logout?nodes=all", id, nil, &ended{})
	if answer := sendTo(h, "GET", "/me", id, nil, nil); answer.StatusCode != http.StatusUnauthorized {
		t.Error(answer.Status)
	}
	var st nodeStats
	ask(t, h, "GET", "/stats", "", nil, &st)
	if st.Store != "sqlite" || st.Memory || st.Leader != nil || st.Queries != nil || st.Stats.Creates != 1 || st.Stats.Destroys != 1 {
		t.Errorf("%+v", st)
	}
}

func TestWhoHasTheFileOpenIsNoticed(t *testing.T) {
	t.Parallel()
	d := &sqliteDB{home: t.TempDir()}
	if _, err := d.migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	o, err := d.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if left, err := d.left(t.Context()); err != nil || len(left) != 1 {
		t.Errorf("a store has it open: %q, %v", left, err)
	}
	if err := o.close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := d.left(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("nobody has it open: %q, %v", left, err)
	}
}
