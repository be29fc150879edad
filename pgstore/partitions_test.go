package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/paging"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

func TestNodesMustAgreeOnWhatIsStored(t *testing.T) {
	t.Parallel()
	p := migratedWith(t, migrations.Settings{LongestLifetime: 72 * time.Hour, PartitionWidth: 12 * time.Hour})
	for _, c := range []struct {
		opts  Options
		field string // empty: it starts
	}{
		{Options{}, ""},
		{Options{PartitionWidth: 12 * time.Hour, LongestLifetime: 72 * time.Hour}, ""},
		{Options{PartitionWidth: 13 * time.Hour}, "PartitionWidth"},
		{Options{PartitionWidth: 12*time.Hour + time.Second}, "PartitionWidth"},
		{Options{LongestLifetime: 48 * time.Hour, PartitionWidth: 12 * time.Hour}, "LongestLifetime"},
	} {
		c.opts.PruneInterval, c.opts.Schema = -1, p.schema
		s, err := New(t.Context(), p.pool, c.opts)
		if err == nil {
			if longest := s.Longest(); longest != 72*time.Hour {
				t.Errorf("the longest lifetime adopted is %v", longest)
			}
			closeStore(t, s)
		}
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%+v: %v", c.opts, err)
		case c.field != "" && (err == nil || !strings.Contains(err.Error(), "Options."+c.field+" is") || !strings.Contains(err.Error(), "SetSettings")):
			t.Errorf("PartitionWidth %v, LongestLifetime %v: got %v, want an error about %s", c.opts.PartitionWidth, c.opts.LongestLifetime, err, c.field)
		}
	}
}

// covered fails unless the partitions take every bucket from first to last.
func (p place) covered(t testing.TB, first, last int32) {
	t.Helper()
	parts := p.parts(t)
	for _, l := range parts {
		if l.lo <= first && first < l.hi {
			first = l.hi
		}
	}
	if first <= last {
		t.Errorf("no partition takes bucket %d (to %d): %v", first, last, parts)
	}
}

func TestChangedWidthAndLifetimeOnALivingSystem(t *testing.T) {
	t.Parallel()
	p := migratedWith(t, migrations.Settings{LongestLifetime: 72 * time.Hour, PartitionWidth: 24 * time.Hour})
	s := p.open(t, quiet)
	before := p.parts(t)
	hour := p.hour(t)
	var old []session.Record
	for _, bucket := range []int32{hour + 2, hour + 30, hour + 71} {
		rec, err := s.Create(t.Context(), lasting(s, bucket))
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, rec)
	}
	// One that starts before the change, one in between, and one after it.
	if _, err := migrations.SetSettings(t.Context(), p.pool, p.config(), migrations.Settings{LongestLifetime: 240 * time.Hour, PartitionWidth: 7 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	between := p.open(t, quiet)
	// Made by whoever needs it, in the middle of nowhere.
	far, err := between.Create(t.Context(), lasting(between, hour+200))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.SetSettings(t.Context(), p.pool, p.config(), migrations.Settings{PartitionWidth: 31 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	prune(t, s)
	after := p.open(t, Options{PruneInterval: -1, PartitionWidth: 31 * time.Hour, LongestLifetime: 240 * time.Hour})

	parts := p.parts(t)
	for _, l := range before {
		if !slices.Contains(parts, l) {
			t.Errorf("%v is gone", l)
		}
	}
	for i := 1; i < len(parts); i++ {
		if parts[i].lo != parts[i-1].hi {
			t.Errorf("%v does not begin where %v ends", parts[i], parts[i-1])
		}
		if !slices.Contains(before, parts[i]) && parts[i].hi-parts[i].lo > 31 {
			t.Errorf("%v is wider than 31 hours", parts[i])
		}
	}
	p.covered(t, hour+1, hour+240+24)

	if _, err := s.table.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for bucket := hour + 2; bucket <= hour+239; bucket++ {
		wg.Go(func() {
			rec, err := s.Create(t.Context(), lasting(s, bucket))
			if err != nil {
				t.Errorf("Create at hour %d: %v", bucket-hour, err)
				return
			}
			if _, err := after.Get(t.Context(), rec.Key); err != nil {
				t.Errorf("Get at hour %d: %v", bucket-hour, err)
			}
		})
	}
	wg.Wait()
	for _, node := range []*Store{s, between, after} {
		for _, rec := range append(old, far) {
			if got := mustGet(t, node, rec.Key); got.Version != rec.Version {
				t.Errorf("an old session has version %d", got.Version)
			}
		}
		if _, err := node.Save(t.Context(), create(t, node, "")); err != nil {
			t.Error(err)
		}
	}
}

func TestPartitionsAreMadeAhead(t *testing.T) {
	t.Parallel()
	for _, premake := range []time.Duration{0, 47 * time.Hour} {
		t.Run(fmt.Sprint(premake), func(t *testing.T) {
			t.Parallel()
			p := migratedWith(t, hourly)
			s := p.open(t, Options{PruneInterval: -1, Premake: premake})
			hours := int32(24 + max(premake, 24*time.Hour)/time.Hour)
			prune(t, s)
			p.covered(t, p.hour(t)+1, p.hour(t)+hours)
			if done := prune(t, s); done.Made > 1 { // one, should an hour have begun
				t.Errorf("a second pass made %d partitions", done.Made)
			}
			for _, ahead := range []int32{3, 10, 11, 40} {
				p.exec(t, `DROP TABLE `+p.table(t, p.partOf(t, p.hour(t)+ahead).name))
			}
			if done := prune(t, s); done.Made < 4 || done.Made > 5 {
				t.Errorf("Made = %d, want 4", done.Made)
			}
			p.covered(t, p.hour(t)+1, p.hour(t)+hours)
		})
	}
}

func TestPartitionsAreNotMadeFurtherAheadThanTheDatabaseAllows(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	_, err := New(t.Context(), p.pool, Options{Schema: p.schema, PruneInterval: -1, Premake: 47*time.Hour + time.Second})
	if err == nil || !strings.Contains(err.Error(), "Options.Premake is 47h0m1s; it must be from 24h0m0s to 47h0m0s") {
		t.Errorf("New: %v, want an error about Premake", err)
	}
}

// Every way of making a session makes the partition that it needs, whether the
// node knows already that it is missing or finds out.
func TestWhoeverNeedsAPartitionMakesIt(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(context.Context, *Store, session.Record) (session.Record, error){
		"Create": func(ctx context.Context, s *Store, rec session.Record) (session.Record, error) {
			return s.Create(ctx, rec)
		},
		"CreateLimited": func(ctx context.Context, s *Store, rec session.Record) (session.Record, error) {
			rec, _, err := s.CreateLimited(ctx, rec, session.UserLimit{Max: 3})
			return rec, err
		},
		"Put": func(ctx context.Context, s *Store, rec session.Record) (session.Record, error) {
			rec.Key.Bucket = 0
			return s.Put(ctx, rec)
		},
		"Renew": func(ctx context.Context, s *Store, rec session.Record) (session.Record, error) {
			old := fresh(s, rec.User)
			old.Deadline = s.Now().Add(3 * time.Hour)
			old.Key = session.NewID(old.Deadline).Key()
			old, err := s.Create(ctx, old)
			if err != nil {
				return old, err
			}
			rec.Version = old.Version
			return s.Renew(ctx, old.Key, rec, 0)
		},
	} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, known %v", name, known), func(t *testing.T) {
				t.Parallel()
				p := migratedWith(t, hourly)
				s := p.open(t, quiet)
				rec := lasting(s, p.hour(t)+20)
				p.exec(t, `DROP TABLE `+p.table(t, p.partOf(t, rec.Key.Bucket).name))
				if known {
					if _, err := s.table.Refresh(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				rec, err := make(t.Context(), s, rec)
				if err != nil {
					t.Fatal(err)
				}
				mustGet(t, s, rec.Key)
				p.partOf(t, session.BucketOf(rec.Deadline))
			})
		}
	}
}

func TestADroppedPartitionTakesItsSessionsAndNoOthers(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	kept, err := s.Create(t.Context(), lasting(s, p.hour(t)+400))
	if err != nil {
		t.Fatal(err)
	}
	rec := create(t, s, "user")
	mustGet(t, s, rec.Key)
	p.exec(t, `DROP TABLE `+p.table(t, p.partOf(t, rec.Key.Bucket).name))

	if _, err := s.Get(t.Context(), rec.Key); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Get: %v, want ErrNotFound", err)
	}
	if fate, err := s.Fate(t.Context(), rec.Key); fate != session.FateUnknown || err != nil {
		t.Errorf("Fate = %v, %v; want unknown", fate, err)
	}
	if _, err := s.Save(t.Context(), rec); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Save: %v, want ErrNotFound", err)
	}
	if _, err := s.Touch(t.Context(), rec.Key, rec.Deadline); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("Touch: %v, want ErrNotFound", err)
	}
	if n, err := s.Destroy(t.Context(), rec.Key); n != 0 || err != nil {
		t.Errorf("Destroy = %d, %v; want 0", n, err)
	}
	mustGet(t, s, kept.Key)
	n := 0
	for key, err := range s.Keys(t.Context()) {
		if n++; err != nil || key != kept.Key {
			t.Errorf("Keys: %v, %v", key, err)
		}
	}
	if n != 1 {
		t.Errorf("Keys lists %d sessions, want 1", n)
	}
	if n, err := s.Clear(t.Context()); n != 1 || err != nil {
		t.Errorf("Clear = %d, %v; want 1", n, err)
	}
}

// A schema that is not there must not look like everybody's logout.
func TestARenamedSchemaIsAnErrorUntilItIsBack(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	var background told
	s := p.open(t, Options{PruneInterval: -1, OnError: background.add})
	rec := create(t, s, "user")
	foreign, err := s.Put(t.Context(), session.Record{Key: session.ForeignKey("test", "token")})
	if err != nil {
		t.Fatal(err)
	}
	operations := map[string]func() error{
		"Get":          func() error { _, err := s.Get(t.Context(), rec.Key); return err },
		"Get, foreign": func() error { _, err := s.Get(t.Context(), foreign.Key); return err },
		"Get, unknown": func() error { _, err := s.Get(t.Context(), session.ForeignKey("test", "other")); return err },
		"Fate":         func() error { _, err := s.Fate(t.Context(), rec.Key); return err },
		"Save":         func() error { _, err := s.Save(t.Context(), rec); return err },
		"Touch":        func() error { _, err := s.Touch(t.Context(), rec.Key, rec.Deadline); return err },
		"Destroy":      func() error { _, err := s.Destroy(t.Context(), rec.Key); return err },
		"Put":          func() error { _, err := s.Put(t.Context(), session.Record{Key: foreign.Key}); return err },
		"Create":       func() error { _, err := s.Create(t.Context(), fresh(s, "")); return err },
		"Renew": func() error {
			next := fresh(s, "")
			next.Version = rec.Version
			_, err := s.Renew(t.Context(), rec.Key, next, 0)
			return err
		},
		"Len":         func() error { _, err := s.Len(t.Context()); return err },
		"ListUser":    func() error { _, err := s.ListUser(t.Context(), "user", session.Record{}, 1000); return err },
		"DestroyUser": func() error { _, err := s.DestroyUser(t.Context(), "user"); return err },
		"Clear":       func() error { _, err := s.Clear(t.Context()); return err },
		"PruneNow":    func() error { _, err := s.PruneNow(t.Context()); return err },
		"Keys": func() (last error) {
			for _, last = range s.Keys(t.Context()) {
			}
			return last
		},
	}
	for range 8 { // long enough for plans to be kept
		mustGet(t, s, rec.Key)
		if rec, err = s.Save(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	p.exec(t, `ALTER SCHEMA `+p.schema+` RENAME TO elsewhere`)
	for name, do := range operations {
		if err := do(); err == nil || errors.Is(err, session.ErrNotFound) || !db.IsCode(err, "42P01") && !db.IsCode(err, "3F000") && !db.IsCode(err, "42883") {
			t.Errorf("%s without the schema: %v", name, err)
		}
	}
	if n := s.writes.Unknown.Load(); n != 0 {
		t.Errorf("%d outcomes are unknown", n)
	}
	p.exec(t, `ALTER SCHEMA elsewhere RENAME TO `+p.schema)
	if got := mustGet(t, s, rec.Key); got.Version != rec.Version {
		t.Errorf("version %d, want %d", got.Version, rec.Version)
	}
	if _, err := s.Save(t.Context(), rec); err != nil {
		t.Error(err)
	}
	if _, err := s.Touch(t.Context(), rec.Key, rec.Deadline); err != nil {
		t.Error(err)
	}
	if n, err := s.Destroy(t.Context(), rec.Key); n != 1 || err != nil {
		t.Errorf("Destroy = %d, %v; want 1", n, err)
	}
	everything(t, s)
}

func TestPagesOfSessionsThatBeganInOneMoment(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	const sessions = 10
	for range sessions {
		create(t, s, "alice")
	}
	p.exec(t, `UPDATE `+p.names(t).Sessions+` SET created_at = '2026-01-01'`)
	paging.Tied(t.Context(), t, s, "alice", sessions)
}
