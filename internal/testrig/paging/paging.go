// Package paging tests lists of a user's sessions that a clock does not tell apart.
package paging

import (
	"context"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// Tied checks that the pages of a user's list have each of the sessions once, which
// are many of one moment.
func Tied(ctx context.Context, t testing.TB, s session.UserIndex, user string, sessions int) {
	t.Helper()
	const most = 3
	seen := map[session.Key]bool{}
	for after, more := (session.Record{}), true; more; {
		page, err := s.ListUser(ctx, user, after, most)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range page {
			if after = rec; seen[rec.Key] {
				t.Fatalf("%v is listed twice", rec.Key)
			}
			seen[rec.Key] = true
		}
		more = len(page) == most
	}
	if len(seen) != sessions {
		t.Errorf("the pages have %d sessions; want %d", len(seen), sessions)
	}
}
