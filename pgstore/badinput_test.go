package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/session"
)

// fingerprint changes with anything that is written to the table.
func fingerprint(t testing.TB, p place) string {
	t.Helper()
	return query[string](t, p, `SELECT coalesce(md5(string_agg(s::text || xmin::text, ' ' ORDER BY key)), '') FROM `+p.schema+`.sessions AS s`)
}

func TestBadInputIsRefusedByNameAndWritesNothing(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{MaxData: 1000, MaxUser: 20}, 4)
	ctx := t.Context()
	old := create(t, s, "ada")
	longest := s.Longest()

	type writer struct {
		name string
		do   func(rec session.Record) error
	}
	creators := []writer{
		{"Create", func(rec session.Record) error { _, err := s.Create(ctx, rec); return err }},
		{"CreateLimited", func(rec session.Record) error {
			_, _, err := s.CreateLimited(ctx, rec, session.UserLimit{Max: 1, Evict: true})
			return err
		}},
		{"Renew", func(rec session.Record) error {
			rec.Version = old.Version
			_, err := s.Renew(ctx, old.Key, rec, time.Minute)
			return err
		}},
		{"RenewLimited", func(rec session.Record) error {
			rec.Version = old.Version
			_, _, err := s.RenewLimited(ctx, old.Key, rec, time.Minute, session.UserLimit{Max: 1, Evict: true})
			return err
		}},
	}
	put := writer{"Put", func(rec session.Record) error { _, err := s.Put(ctx, rec); return err }}
	save := writer{"Save", func(rec session.Record) error {
		if rec.Key.Hash != [32]byte{} {
			rec.Key = old.Key
		}
		rec.Version = old.Version
		_, err := s.Save(ctx, rec)
		return err
	}}
	everyone := append([]writer{put, save}, creators...)

	for _, c := range []struct {
		name    string
		spoil   func(*session.Record)
		want    error
		mention string
		writers []writer
	}{
		{"data over the limit", func(r *session.Record) { r.Data = make([]byte, 1001) }, session.ErrTooLarge, "Record.Data has 1001 bytes; the limit is 1000", everyone},
		{"a user over the limit", func(r *session.Record) { r.User = strings.Repeat("u", 21) }, session.ErrTooLarge, "Record.User has 21 bytes; the limit is 20", append(creators[:4:4], put)},
		{"a user that is not UTF-8", func(r *session.Record) { r.User = "a\xff" }, session.ErrInvalid, "Record.User is not UTF-8", everyone},
		{"a user with a NUL", func(r *session.Record) { r.User = "a\x00b" }, session.ErrInvalid, "Record.User has a NUL at byte 1", everyone},
		{"the zero key", func(r *session.Record) { r.Key = session.Key{} }, session.ErrInvalid, "Record.Key is zero", everyone},
		{"a key with another bucket", func(r *session.Record) { r.Key.Bucket++ }, session.ErrInvalid, "bucket", creators},
		{"a key with an impossible bucket", func(r *session.Record) { r.Key.Bucket = -5 }, session.ErrInvalid, "bucket -5", append(creators[:4:4], put)},
		{"no deadline", func(r *session.Record) { r.Deadline = time.Time{} }, session.ErrDeadline, "Record.Deadline is missing", creators},
		{"a deadline that has passed", func(r *session.Record) {
			r.Deadline = s.Now().Add(-3 * time.Hour)
			r.Expires = r.Deadline
			r.Key = session.NewID(r.Deadline).Key()
		}, session.ErrDeadline, "Record.Deadline", append(creators[:4:4], put)},
		{"a deadline beyond the longest lifetime", func(r *session.Record) {
			r.Deadline = s.Now().Add(longest + 2*time.Hour)
			r.Key = session.NewID(r.Deadline).Key()
		}, session.ErrDeadline, "Record.Deadline", append(creators[:4:4], put)},
		{"a deadline far beyond any", func(r *session.Record) {
			r.Deadline = time.Unix(1<<55, 0)
			r.Key = session.NewID(r.Deadline).Key()
		}, session.ErrDeadline, "Record.Deadline", append(creators[:4:4], put)},
		{"an expiry past the deadline", func(r *session.Record) { r.Expires = r.Deadline.Add(time.Second) }, session.ErrDeadline, "after Record.Deadline", creators},
		{"an expiry that has passed", func(r *session.Record) { r.Expires = s.Now().Add(-time.Hour) }, session.ErrDeadline, "Record.Expires passed", append(creators[:4:4], put)},
		{"an expiry before all time", func(r *session.Record) { r.Expires = time.Unix(-1<<55, 0) }, session.ErrDeadline, "Record.Expires passed", append(creators[:4:4], put)},
	} {
		before := fingerprint(t, p)
		for _, w := range c.writers {
			for _, foreign := range []bool{false, true} {
				rec := fresh(s, "ada")
				c.spoil(&rec)
				if foreign {
					if w.name == "Save" || strings.Contains(c.name, "key") {
						continue
					}
					rec.Key = session.ForeignKey("test", c.name)
				}
				what := fmt.Sprintf("%s with %s (foreign key: %v)", w.name, c.name, foreign)
				err := w.do(rec)
				wantErr(t, what, err, c.want)
				if err != nil && !strings.Contains(err.Error(), c.mention) {
					t.Errorf("%s: %v; want %q in it", what, err, c.mention)
				}
			}
		}
		if fingerprint(t, p) != before {
			t.Fatalf("something with %s changed the table", c.name)
		}
	}

	// What is just within the limits is accepted.
	for _, w := range everyone {
		rec := fresh(s, "ada")
		rec.Data, rec.User = make([]byte, 1000), strings.Repeat("u", 20)
		if w.name == "Save" {
			rec.User = "ada"
		}
		if w.name == "Create" || w.name == "Put" {
			rec.Deadline = s.Now().Add(longest)
			rec.Key = session.NewID(rec.Deadline).Key()
			rec.Expires = rec.Deadline
		}
		if strings.HasPrefix(w.name, "Renew") || w.name == "Save" {
			old = create(t, s, "ada")
		}
		wantErr(t, w.name+" within the limits", w.do(rec), nil)
	}
}

func TestBadArgumentsAreRefusedByNameAndWriteNothing(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.node(t, Options{}, 4)
	ctx := t.Context()
	old := create(t, s, "ada")
	renewTo := func() session.Record {
		next := fresh(s, "ada")
		next.Version = old.Version
		return next
	}
	long := strings.Repeat("u", 2001)
	before := fingerprint(t, p)
	for _, c := range []struct {
		name    string
		do      func() error
		want    error
		mention string
	}{
		{"Renew with a negative grace", func() error { _, err := s.Renew(ctx, old.Key, renewTo(), -1); return err }, session.ErrInvalid, "grace is -1ns; it must be from 0 to 1h"},
		{"Renew with a long grace", func() error { _, err := s.Renew(ctx, old.Key, renewTo(), time.Hour+1); return err }, session.ErrInvalid, "grace is 1h0m0.000000001s"},
		{"RenewLimited with a long grace", func() error {
			_, _, err := s.RenewLimited(ctx, old.Key, renewTo(), math.MaxInt64, session.UserLimit{Max: 1})
			return err
		}, session.ErrInvalid, "grace"},
		{"RenewLimited with a negative limit", func() error {
			_, _, err := s.RenewLimited(ctx, old.Key, renewTo(), 0, session.UserLimit{Max: -1})
			return err
		}, session.ErrInvalid, "UserLimit.Max is -1"},
		{"CreateLimited with a negative limit", func() error {
			_, _, err := s.CreateLimited(ctx, fresh(s, "ada"), session.UserLimit{Max: -2})
			return err
		}, session.ErrInvalid, "UserLimit.Max is -2"},
		{"CreateLimited of nobody", func() error {
			_, _, err := s.CreateLimited(ctx, fresh(s, ""), session.UserLimit{Max: 1})
			return err
		}, session.ErrInvalid, "Record.User is empty"},
		{"Renew of the zero key", func() error { _, err := s.Renew(ctx, session.Key{}, renewTo(), 0); return err }, session.ErrInvalid, "the key is zero"},
		{"Renew to the same key", func() error {
			next := renewTo()
			next.Key, next.Deadline = old.Key, old.Deadline
			_, err := s.Renew(ctx, old.Key, next, 0)
			return err
		}, session.ErrExists, ""},
		{"Touch of the zero key", func() error { _, err := s.Touch(ctx, session.Key{}, s.Now()); return err }, session.ErrInvalid, "the key is zero"},
		{"TouchLater of the zero key", func() error { _, err := s.TouchLater(ctx, session.Key{}, s.Now()); return err }, session.ErrInvalid, "the key is zero"},
		{"Destroy of the zero key", func() error { _, err := s.Destroy(ctx, old.Key, session.Key{}); return err }, session.ErrInvalid, "the key is zero"},
		{"DestroyUser of nobody", func() error { _, err := s.DestroyUser(ctx, ""); return err }, session.ErrInvalid, "user is empty"},
		{"DestroyUser that is not UTF-8", func() error { _, err := s.DestroyUser(ctx, "\xff"); return err }, session.ErrInvalid, "user is not UTF-8"},
		{"ListUser over the limit", func() error { _, err := s.ListUser(ctx, long, session.Record{}, 1000); return err }, session.ErrTooLarge, "user has 2001 bytes; the limit is 2000"},
		{"CountUser with a NUL", func() error { _, err := s.CountUser(ctx, "\x00"); return err }, session.ErrInvalid, "user has a NUL"},
		{"Save with another user", func() error { rec := old; rec.User = "bob"; _, err := s.Save(ctx, rec); return err }, session.ErrUserChanged, ""},
		{"Save with a version from elsewhere", func() error { rec := old; rec.Version = -1; _, err := s.Save(ctx, rec); return err }, session.ErrConflict, ""},
	} {
		err := c.do()
		wantErr(t, c.name, err, c.want)
		if err != nil && !strings.Contains(err.Error(), c.mention) {
			t.Errorf("%s: %v; want %q in it", c.name, err, c.mention)
		}
		if fingerprint(t, p) != before {
			t.Fatalf("%s changed the table", c.name)
		}
	}
}

// anyCalls are all calls that ask the database about a session or a user.
func anyCalls(s *Store, rec session.Record) map[string]func(context.Context) error {
	next := rec
	next.Key = session.NewID(rec.Deadline).Key()
	limit := session.UserLimit{Max: 5}
	return map[string]func(context.Context) error{
		"Get":  func(ctx context.Context) error { _, err := s.Get(ctx, rec.Key); return err },
		"Fate": func(ctx context.Context) error { _, err := s.Fate(ctx, rec.Key); return err },
		"Save": func(ctx context.Context) error { _, err := s.Save(ctx, rec); return err },
		"Create": func(ctx context.Context) error {
			_, err := s.Create(ctx, fresh(s, rec.User))
			return err
		},
		"Touch":   func(ctx context.Context) error { _, err := s.Touch(ctx, rec.Key, rec.Deadline); return err },
		"Renew":   func(ctx context.Context) error { _, err := s.Renew(ctx, rec.Key, next, 0); return err },
		"Destroy": func(ctx context.Context) error { _, err := s.Destroy(ctx, rec.Key); return err },
		"Put":     func(ctx context.Context) error { _, err := s.Put(ctx, rec); return err },
		"Len":     func(ctx context.Context) error { _, err := s.Len(ctx); return err },
		"Keys": func(ctx context.Context) error {
			for _, err := range s.Keys(ctx) {
				return err
			}
			return nil
		},
		"All": func(ctx context.Context) error {
			for _, err := range s.All(ctx) {
				return err
			}
			return nil
		},
		"Clear": func(ctx context.Context) error { _, err := s.Clear(ctx); return err },
		"ListUser": func(ctx context.Context) error {
			_, err := s.ListUser(ctx, rec.User, session.Record{}, 1000)
			return err
		},
		"CountUser":   func(ctx context.Context) error { _, err := s.CountUser(ctx, rec.User); return err },
		"DestroyUser": func(ctx context.Context) error { _, err := s.DestroyUser(ctx, rec.User); return err },
		"CreateLimited": func(ctx context.Context) error {
			_, _, err := s.CreateLimited(ctx, fresh(s, rec.User), limit)
			return err
		},
		"RenewLimited": func(ctx context.Context) error {
			_, _, err := s.RenewLimited(ctx, rec.Key, next, 0, limit)
			return err
		},
		"PruneNow": func(ctx context.Context) error { _, err := s.PruneNow(ctx); return err },
	}
}

func TestACallThatCannotBeginAsksNothing(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	var asked atomic.Int64
	s := p.node(t, Options{}, 4, func(c *pgxpool.Config) { c.ConnConfig.Tracer = counter{&asked} })
	rec := create(t, s, "ada")
	before := asked.Load()
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the reason")
	cancel(reason)
	for name, do := range anyCalls(s, rec) {
		err := do(ctx)
		wantErr(t, name+" with a cancelled context", err, context.Canceled)
		wantErr(t, name+" with a cancelled context", err, reason)
	}
	closeStore(t, s)
	for name, do := range anyCalls(s, rec) {
		wantErr(t, name+" on a closed store", do(t.Context()), session.ErrClosed)
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("the database was asked %d times", n)
	}
}

// Content of any kind comes back as it was, and never gets into a statement.
func TestAnyContentIsStoredAsItIs(t *testing.T) {
	t.Parallel()
	s := migrated(t).node(t, Options{}, 4)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, user := range []string{"'; DROP TABLE sessions; --", `\x41`, "ünï\U0001F600", "{a,b}", `"`, "NULL", " "} {
		rec := fresh(s, user)
		rec.Data = append(every, user...)
		made, err := s.Create(t.Context(), rec)
		wantErr(t, "Create", err, nil)
		_, err = s.Save(t.Context(), made)
		wantErr(t, "Save", err, nil)
		got, err := s.ListUser(t.Context(), user, session.Record{}, 1000)
		if err != nil || len(got) != 1 || got[0].User != user || !bytes.Equal(got[0].Data, rec.Data) {
			t.Errorf("ListUser(%q) = %v, %v", user, got, err)
		}
	}
}
