package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sojourn-go/sojourn/session"
)

func goDoesNotOverwriteNode(t *testing.T, p pair) {
	ctx := t.Context()
	expires := inTime(time.Hour)
	p.node.must(t, "set", "changed", p.document(expires, `,"n":1`))
	read := p.read(t, "changed")
	byNode := p.document(expires, `,"n":2`)
	p.node.must(t, "set", "changed", byNode)

	if _, err := p.store.Save(ctx, read, p.document(expires, `,"n":3`), expires); !errors.Is(err, session.ErrConflict) {
		t.Errorf("Go's Save after Node's set: %v, want ErrConflict", err)
	}
	if _, err := p.store.Renew(ctx, read, "changed-renewed", p.document(expires, `,"n":3`), expires); !errors.Is(err, session.ErrConflict) {
		t.Errorf("Go's Renew after Node's set: %v, want ErrConflict", err)
	}
	p.wantDocument(t, "Node", p.node.get(t, "changed"), byNode)
	if got := p.node.get(t, "changed-renewed"); got != nil {
		t.Errorf("a Renew that failed made a session: %s", got)
	}

	if _, err := p.store.Save(ctx, p.read(t, "changed"), p.document(expires, `,"n":4`), expires); err != nil {
		t.Error("Go's Save after reading again:", err)
	}
}

func goBringsNothingBack(t *testing.T, p pair) {
	ctx := t.Context()
	expires := inTime(time.Hour)
	doc := p.document(expires, "")
	p.node.must(t, "set", "ended", doc)
	read := p.read(t, "ended")
	p.node.must(t, "destroy", "ended")

	if _, err := p.store.Save(ctx, read, p.document(expires, `,"n":1`), expires); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Go's Save of what Node destroyed: %v, want ErrNotFound", err)
	}
	if found, err := p.store.Touch(ctx, "ended", expires); found || err != nil {
		t.Errorf("Go's Touch of what Node destroyed: %v, %v", found, err)
	}
	if _, err := p.store.Renew(ctx, read, "ended-renewed", doc, expires); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Go's Renew of what Node destroyed: %v, want ErrNotFound", err)
	}
	for _, sid := range []string{"ended", "ended-renewed"} {
		if _, ok := p.row(t, sid); ok {
			t.Errorf("Go brought %s back", sid)
		}
	}
}

// None of the packages looks at what it overwrites. Whoever shares a table with
// them has to live with this.
func nodeWritesBlindly(t *testing.T, p pair) {
	ctx := t.Context()
	expires := inTime(time.Hour)
	p.node.must(t, "set", "blind", p.document(expires, `,"n":1`))
	byNode := p.node.get(t, "blind")
	if _, err := p.store.Save(ctx, p.read(t, "blind"), p.document(expires, `,"n":2`), expires); err != nil {
		t.Fatal(err)
	}
	p.node.must(t, "set", "blind", byNode)
	p.wantDocument(t, "Go", p.read(t, "blind").Data, byNode)

	if n, err := p.store.Destroy(ctx, "blind"); err != nil || n != 1 {
		t.Fatalf("Go's Destroy: %d, %v", n, err)
	}
	p.node.must(t, "set", "blind", byNode)
	p.wantDocument(t, "Go", p.read(t, "blind").Data, byNode)
}

const rounds = 15

// noChangeOfGoIsLost has two goroutines count in one session, each under a name
// of its own, while Node touches it.
func noChangeOfGoIsLost(t *testing.T, p pair) {
	p.node.must(t, "set", "counted", p.document(inTime(time.Hour), ""))
	var group errgroup.Group
	for _, name := range []string{"a", "b"} {
		group.Go(func() error {
			for range rounds {
				if err := p.increment(t, "counted", name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		for i := range rounds {
			method, args := "get", []any{"counted"}
			if !p.does.koa {
				method, args = "touch", append(args, p.document(inTime(time.Hour+time.Duration(i)*time.Minute), ""))
			}
			if _, err := p.node.call(method, args...); err != nil {
				return fmt.Errorf("Node's %s: %w", method, err)
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	var got struct{ A, B int }
	decode(t, p.node.get(t, "counted"), &got)
	if got.A != rounds || got.B != rounds {
		t.Errorf("Go counted to %d and %d, want %d each", got.A, got.B, rounds)
	}
}

// noChangeOfNodeIsLost has Node count in a session, reading and writing it as a
// request does, beside two goroutines. Node overwrites what they count, but
// they must not overwrite what Node counts.
func noChangeOfNodeIsLost(t *testing.T, p pair) {
	p.node.must(t, "set", "counted by all", p.document(inTime(time.Hour), `,"n":0`))
	var group errgroup.Group
	turns := make(chan struct{}, 4*rounds) // so many that nobody waits
	for _, name := range []string{"a", "b"} {
		group.Go(func() error {
			for range turns {
				if err := p.increment(t, "counted by all", name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(turns)
		for i := range rounds {
			for range 4 {
				turns <- struct{}{}
			}
			if err := p.incrementInNode(i); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	var got struct{ N int }
	decode(t, p.node.get(t, "counted by all"), &got)
	if got.N != rounds {
		t.Errorf("Node counted to %d, want %d", got.N, rounds)
	}
}

func (p pair) incrementInNode(from int) error {
	text, err := p.node.call("get", "counted by all")
	if err != nil {
		return fmt.Errorf("Node's get: %w", err)
	}
	doc := map[string]any{}
	if err := json.Unmarshal(text, &doc); err != nil {
		return err
	}
	if doc["n"] != float64(from) {
		return fmt.Errorf("Node reads %v of what it counts, want %d", doc["n"], from)
	}
	doc["n"] = from + 1
	if _, err := p.node.call("set", "counted by all", doc); err != nil {
		return fmt.Errorf("Node's set: %w", err)
	}
	return nil
}

// saversEndWhenNodeDestroys has two goroutines count until there is nothing to
// count in. They do not go on for ever: in SQLite whoever writes most can keep
// others from writing at all.
func saversEndWhenNodeDestroys(t *testing.T, p pair) {
	p.node.must(t, "set", "racing", p.document(inTime(time.Hour), ""))
	var group errgroup.Group
	counting := make(chan struct{}, 4)
	for _, name := range []string{"a", "b"} {
		group.Go(func() error {
			defer func() { counting <- struct{}{} }()
			for i := range 2 * rounds {
				switch err := p.increment(t, "racing", name); {
				case errors.Is(err, session.ErrNotFound):
					return nil
				case err != nil:
					return err
				}
				if i == 2 {
					counting <- struct{}{}
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		<-counting
		_, err := p.node.call("destroy", "racing")
		return err
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := p.increment(t, "racing", "a"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a saver after Node's destroy: %v, want ErrNotFound", err)
	}
	if _, ok := p.row(t, "racing"); ok {
		t.Error("a saver brought the session back")
	}
}

// increment adds one to a member and repeats that while others come first.
func (p pair) increment(t testing.TB, sid, name string) error {
	for range 1000 {
		e, err := p.store.Get(t.Context(), sid)
		if err != nil {
			return err
		}
		doc := map[string]any{}
		if err := json.Unmarshal(e.Data, &doc); err != nil {
			return err
		}
		n, _ := doc[name].(float64)
		doc[name] = n + 1
		data, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		if _, err := p.store.Save(t.Context(), e, data, e.Expires); !errors.Is(err, session.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("a thousand times: %w", session.ErrConflict)
}
