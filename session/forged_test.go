package session_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func TestAForgedIDWithAPastBucketIsUnknown(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{})
	for _, ago := range []time.Duration{hour, oneDay, 1000 * oneDay} {
		id := session.NewID(noon.Add(-ago))
		(&browser{p, "__Host-session=" + id.Secret()}).visit(nil)
		p.expect("a guess", session.Event{Kind: session.EventUnknownID, Key: id.Key()})
	}
	// A signature proves that the server has made it.
	signed := newSiteOn(t, p.clock, p.store, session.Options{Cookie: session.Cookie{SigningKeys: session.Secrets(strings.Repeat("k", 32))}})
	b := signed.browser()
	b.visit(setting(t, "k", 1))
	key := keyOf(unsigned(b))
	p.clock.advance(10 * oneDay)
	if _, err := p.store.PruneNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	signed.told()
	b.visit(nil)
	signed.expect("one that was made here", session.Event{Kind: session.EventExpired, Key: key})
}

func TestForgedIDsAreLookedUpOnceEachAndSoOftenASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newSite(t, session.Options{})
		b, _ := started(t, p)
		node := newSiteOn(t, p.clock, p.store, session.Options{}) // which has not met it
		began := time.Now()
		const forged = 2000
		for i := range forged {
			id := session.NewID(noon.Add(hour))
			if i%2 > 0 {
				id = session.NewID(noon.Add(-hour))
			}
			(&browser{node, "__Host-session=" + id.Secret()}).visit(nil)
		}
		calls := node.store.taken()
		if strings.Contains(strings.Join(calls, " "), "Fate") || len(calls) != forged {
			t.Errorf("%d IDs cost %d calls; want one each, and never Fate", forged, len(calls))
		}
		if took := time.Since(began); took < time.Second {
			t.Errorf("%d IDs took %v; want that their rate is bounded", forged, took)
		}
		b.site = node
		for range 2 {
			b.visit(func(_ context.Context, s *session.Session) {
				if !s.Has("k") {
					t.Error("a session that exists is hidden")
				}
			})
		}
		// Those that the server has signed are no forgeries.
		signed := newSiteOn(t, p.clock, p.store, session.Options{Cookie: session.Cookie{SigningKeys: session.Secrets(strings.Repeat("k", 32))}})
		made := signed.browser()
		made.visit(setting(t, "k", 1))
		emptied := newSite(t, session.Options{Cookie: session.Cookie{SigningKeys: session.Secrets(strings.Repeat("k", 32))}})
		began = time.Now()
		for range forged {
			(&browser{emptied, made.cookie}).visit(nil)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("%d that are signed took %v", forged, took)
		}
		// Nor are sessions that have ended.
		node.told()
		began = time.Now()
		for i := range forged {
			other := p.browser()
			other.visit(setting(t, "k", i))
			left := *other
			other.visit(ending(t, (*session.Session).Destroy))
			left.site = node
			left.visit(nil)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("%d that have ended took %v", forged, took)
		}
		for _, e := range node.told() {
			if e.Kind != session.EventEnded {
				t.Fatalf("told %v; want %v", e.Kind, session.EventEnded)
			}
		}
	})
}
