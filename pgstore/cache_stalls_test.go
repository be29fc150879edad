package pgstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"regexp"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/session"
)

// A payload that tells of a write, in what a node sends.
var telling = regexp.MustCompile(`(?:^|[^A-Za-z0-9_-])1([kua])([A-Za-z0-9_-]{11,})`)

// tellsOf is a condition: a write is told of that a user's session has part in.
func tellsOf(key session.Key) func([]byte) bool {
	return func(stream []byte) bool {
		for _, found := range telling.FindAllSubmatch(stream, -1) {
			raw, err := base64.RawURLEncoding.DecodeString(string(found[2]))
			if err == nil && (found[1][0] != 'k' || bytes.Contains(raw, key.Hash[:16])) {
				return true
			}
		}
		return false
	}
}

// A node sends a write. A Get on it reads the session before the commit. The
// write is committed, its message comes back, and its answer never does.
func TestAWriteWhoseAnswerIsStalledIsSeenWithinTheLease(t *testing.T) {
	t.Parallel()
	renew := func(ctx context.Context, s *Store, rec session.Record, user string, limit session.UserLimit) error {
		next := fresh(s, user)
		next.Version = rec.Version
		_, _, err := s.renew(ctx, rec.Key, next, 0, limit)
		return err
	}
	for name, do := range map[string]func(ctx context.Context, s *Store, rec session.Record) error{
		"Save": func(ctx context.Context, s *Store, rec session.Record) error {
			rec.Data = []byte("new")
			_, err := s.Save(ctx, rec)
			return err
		},
		"Save that ends the session": func(ctx context.Context, s *Store, rec session.Record) error {
			rec.Expires = s.Now().Add(-time.Hour)
			_, err := s.Save(ctx, rec)
			return err
		},
		"Put": func(ctx context.Context, s *Store, rec session.Record) error {
			rec.Data = []byte("new")
			_, err := s.Put(ctx, rec)
			return err
		},
		"Destroy": func(ctx context.Context, s *Store, rec session.Record) error {
			_, err := s.Destroy(ctx, rec.Key)
			return err
		},
		"Destroy of another one that was renewed to it": func(ctx context.Context, s *Store, rec session.Record) error {
			_, err := s.Destroy(ctx, formerKey(rec))
			return err
		},
		"Renew": func(ctx context.Context, s *Store, rec session.Record) error {
			return renew(ctx, s, rec, rec.User, session.UserLimit{})
		},
		"RenewLimited": func(ctx context.Context, s *Store, rec session.Record) error {
			return renew(ctx, s, rec, rec.User, session.UserLimit{Max: 9})
		},
		"RenewLimited that evicts it": func(ctx context.Context, s *Store, rec session.Record) error {
			other, err := s.Create(ctx, fresh(s, rec.User))
			if err != nil {
				return err
			}
			return renew(ctx, s, other, rec.User, session.UserLimit{Max: 1, Evict: true})
		},
		"CreateLimited that evicts it": func(ctx context.Context, s *Store, rec session.Record) error {
			_, _, err := s.CreateLimited(ctx, fresh(s, rec.User), session.UserLimit{Max: 1, Evict: true})
			return err
		},
		"DestroyUser": func(ctx context.Context, s *Store, rec session.Record) error {
			_, err := s.DestroyUser(ctx, rec.User)
			return err
		},
		"Clear": func(ctx context.Context, s *Store, _ session.Record) error {
			_, err := s.Clear(ctx)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := leasing(t, shortLease)
			ws, mod := wired(t)
			s, _, writing := p.split(t, Options{WriteTimeout: 2 * time.Minute, unhurried: true}, mod)
			deadline := s.Now().Add(time.Hour) // in the partition that Clear begins with
			former := fresh(s, "ada")
			former.Key, former.Deadline = session.NewID(deadline).Key(), deadline
			former, err := s.Create(t.Context(), former)
			if err != nil {
				t.Fatal(err)
			}
			next := former
			next.Key = session.NewID(deadline).Key()
			next.Data = former.Key.Hash[:]
			rec, err := s.Renew(t.Context(), former.Key, next, 0)
			if err != nil {
				t.Fatal(err)
			}

			held, send := ws.hold(tellsOf(rec.Key))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := async(func() error { return do(ctx, s, rec) })
			<-held
			for range 3 { // it is there still
				mustGet(t, s, rec.Key)
			}
			committed := writing.Trigger(faultproxy.ToServer, tellsOf(rec.Key), faultproxy.HangAfterwards)
			send()
			<-committed
			at := time.Now()
			if r := rowOf(t, p, rec.Key); r.Live && r.Version == rec.Version {
				t.Fatal("nothing was committed")
			}
			dbtest.Eventually(t, "the lease is over, and there is one", func() bool {
				asked := time.Now()
				got, err := s.Get(t.Context(), rec.Key)
				wantErr(t, "Get", err, nil, session.ErrNotFound)
				if err == nil && got.Version == rec.Version && asked.Sub(at) > shortLease {
					t.Fatalf("it serves the session of before %v after the commit; the lease is %v", asked.Sub(at), shortLease)
				}
				return asked.Sub(at) > 2*shortLease && isLeased(s)
			})
			pending(t, name, done)
			writing.CutAll()
			cancel()
			<-done
		})
	}
}

// formerKey is that of the session which was renewed to rec.
func formerKey(rec session.Record) session.Key {
	key := session.Key{Bucket: session.BucketOf(rec.Deadline)}
	copy(key.Hash[:], rec.Data)
	return key
}
