package session_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/spystore"
	"github.com/sojourn-go/sojourn/session"
)

// A store that was wrong about the time says so once and then knows it. The
// request's times are computed anew.
func TestTimesThatAStoreRefusesAreComputedOnceMore(t *testing.T) {
	t.Parallel()
	const lag = 5 * time.Hour
	for call, handle := range map[spystore.Call]func(f *frail, t turn){
		spystore.Create: func(f *frail, t turn) {
			f.must("Destroy", t.s.Destroy(t.r.Context()))
			f.must("Login", t.s.Login(t.r.Context(), "bob", session.Login{}))
		},
		spystore.Renew: func(f *frail, t turn) { f.must("Login", t.s.Login(t.r.Context(), "bob", session.Login{})) },
		spystore.Save:  func(f *frail, t turn) { f.must("Set", t.s.Set("after", true)) },
	} {
		t.Run(string(call), func(t *testing.T) {
			t.Parallel()
			f := newFrail(t, session.Options{Policy: session.Policy{AbsoluteTimeout: 4 * time.Hour}})
			cookie := f.begin("alice")
			f.store.GoAhead(-lag)
			refused := 0
			f.store.Between(func(_ context.Context, c spystore.Call, do func() error) error {
				if c != call {
					return do()
				}
				if refused++; refused > 1 {
					return do()
				}
				f.store.GoAhead(0)
				return fmt.Errorf("%w: it has passed", session.ErrDeadline)
			})
			resp, after := f.ask(cookie, func(t turn) { handle(f, t) })
			if resp.StatusCode != 200 || refused != 2 {
				t.Fatalf("the answer is %d after %d calls of %s; want 200 after 2", resp.StatusCode, refused, call)
			}
			f.store.Between(nil)
			f.ask(after, func(turn turn) {
				rec, err := f.store.Get(t.Context(), turn.s.Key())
				if err != nil {
					t.Fatal(err)
				}
				if left := time.Until(rec.Expires); left < 20*time.Minute || left > 31*time.Minute {
					t.Errorf("it has %v of its idle timeout left", left)
				}
				if left := time.Until(rec.Deadline); left < 3*time.Hour {
					t.Errorf("it has %v left", left)
				}
			})
		})
	}
}

// Sessions are made as long as the store takes them by now, whatever the policy
// was checked against.
func TestAPolicyLongerThanTheStoreTakesByNow(t *testing.T) {
	t.Parallel()
	f := newFrail(t, session.Options{Policy: session.Policy{AbsoluteTimeout: 48 * time.Hour, AnonymousTimeout: -1}})
	f.store.Shorten(24 * time.Hour)
	_, cookie := f.ask("", func(t turn) { f.must("Login", t.s.Login(t.r.Context(), "alice", session.Login{})) })
	f.ask(cookie, func(turn turn) {
		rec, err := f.store.Get(t.Context(), turn.s.Key())
		if left := time.Until(rec.Deadline); err != nil || left > 24*time.Hour || left < 23*time.Hour {
			t.Errorf("it has %v left, %v; want a day", left, err)
		}
	})
}
