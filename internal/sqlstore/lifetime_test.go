package sqlstore

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/sojourn-go/sojourn/session"
)

// Close lets go of the connections last: after the queues, the calls that are
// under way, and the pass.
func TestCloseGivesConnectionsBackLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, db := newFake(t)
		leave, err := e.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pass := make(chan struct{})
		e.StartPruning(func(ctx context.Context) { <-ctx.Done(); <-pass })
		closed := make(chan error, 2)
		for range 2 {
			go func() { closed <- e.Close(t.Context()) }()
		}
		synctest.Wait()
		want := func(did ...string) {
			t.Helper()
			synctest.Wait()
			if got := db.closed(); !slices.Equal(got, did) {
				t.Errorf("it did %q, want %q", got, did)
			}
		}
		want("refuse", "drain")
		for what, err := range map[string]error{
			"Begun":  e.Begun(t.Context()),
			"Create": func() error { _, err := e.Create(t.Context(), newOf("ada")); return err }(),
			"Get":    func() error { _, err := e.Get(t.Context(), newOf("ada").Key); return err }(),
			"Len":    func() error { _, err := e.Len(t.Context()); return err }(),
			"Enter":  func() error { _, err := e.Enter(t.Context()); return err }(),
		} {
			wantErr(t, what, err, session.ErrClosed)
		}
		leave()
		want("refuse", "drain")
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		wantErr(t, "Close with no time", e.Close(ended), context.Canceled)
		want("refuse", "drain", "give up")
		close(pass)
		want("refuse", "drain", "give up", "release")
		wantErr(t, "Close", <-closed, nil)
		wantErr(t, "Close", <-closed, nil)
		wantErr(t, "Close again", e.Close(t.Context()), nil)
	})
}

func TestCloseWaitsForACallWithoutAPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, db := newFake(t)
		leave, err := e.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan error, 1)
		go func() { closed <- e.Close(t.Context()) }()
		synctest.Wait()
		if did := db.closed(); slices.Contains(did, "release") {
			t.Errorf("while a call is under way it did %q", did)
		}
		leave()
		wantErr(t, "Close", <-closed, nil)
	})
}

func TestNothingBeginsForWhoHasGivenUp(t *testing.T) {
	t.Parallel()
	e, db := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := e.Enter(ctx)
	wantErr(t, "Enter", err, context.Canceled)
	_, err = e.Clear(ctx)
	wantErr(t, "Clear", err, context.Canceled)
	if len(db.works) != 0 {
		t.Errorf("there were transactions: %+v", db.works)
	}
}

func TestAGateWaitsForThoseInside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(2)
		for range 2 {
			if err := g.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		wantErr(t, "Enter with no time", g.Enter(ended), context.Canceled)
		third := make(chan error, 1)
		go func() { third <- g.Enter(t.Context()) }()
		synctest.Wait()
		if len(third) > 0 {
			t.Error("a third one came in")
		}
		g.Leave()
		wantErr(t, "Enter of the third", <-third, nil)
		late := make(chan error, 1)
		go func() { late <- g.Enter(t.Context()) }()
		synctest.Wait()
		closed := make(chan struct{})
		go func() { g.Close(); close(closed) }()
		wantErr(t, "Enter that waited", <-late, session.ErrClosed)
		g.Leave()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close did not wait for the last one")
		default:
		}
		g.Leave()
		<-closed
		wantErr(t, "Enter once it is closed", g.Enter(t.Context()), session.ErrClosed)
	})
}
