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

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// ended adds a partition whose time is over, with rows expired sessions.
func (p place) ended(t testing.TB, rows int) part {
	t.Helper()
	hour := p.hour(t)
	return p.addPart(t, hour-450, hour-400, rows)
}

func TestAPartitionPastItsGraceIsDropped(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		settings := hourly
		settings.RetireGrace = 48 * time.Hour
		p := migratedWith(t, settings)
		s := at(p).open(t, Options{PruneInterval: -1, RetireGrace: 48 * time.Hour})
		live := create(t, s, "user")
		hour := p.hour(t)
		const rows = 20_000
		past := p.addPart(t, hour-60, hour-48, rows) // its last hour ended 49 hours ago
		graced := p.addPart(t, hour-48, hour-45, 10) // and this one's 46

		attachment := p.attachment(t, graced)
		size := query[int64](t, p, `SELECT pg_total_relation_size($1::text::regclass)`, p.table(t, past.name))
		const used = `SELECT pg_database_size(current_database())`
		const deleted = `SELECT pg_stat_get_db_tuples_deleted(oid) FROM pg_database WHERE datname = current_database()`
		sizeBefore, deletedBefore := query[int64](t, p, used), query[int64](t, p, deleted)
		done := prune(t, s)
		if done.Retired != 1 || done.Rows != rows {
			t.Errorf("Retired %d with %d rows, want 1 with %d", done.Retired, done.Rows, rows)
		}
		if got := s.Stats().Pruned; got != done {
			t.Errorf("Stats say %+v, want %+v", got, done)
		}
		if p.exists(t, past.name) {
			t.Error("the table is still there")
		}
		if back := sizeBefore - query[int64](t, p, used); back < size*9/10 {
			t.Errorf("%d bytes of %d came back", back, size)
		}
		// The connection of the pass reports what it did before it ends.
		if n := query[int64](t, p, deleted) - deletedBefore; n >= rows/10 {
			t.Errorf("%d rows were deleted", n)
		}
		if !slices.Contains(p.parts(t), graced) || p.attachment(t, graced) != attachment {
			t.Errorf("%v was detached within its grace", graced)
		}
		mustGet(t, s, live.Key)
	})
}

// While a long reader holds up a retirement, everybody else goes on.
func TestALongReaderDelaysOnlyTheRetirement(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s, peer := p.open(t, quiet), p.open(t, quiet)
	past := p.ended(t, 10)
	rec := create(t, s, "user")
	endReader := p.reader(t)
	pruned := make(chan error, 1)
	go func() {
		done, err := s.PruneNow(t.Context())
		if err == nil && done.Retired != 1 {
			err = fmt.Errorf("retired %d, want 1", done.Retired)
		}
		pruned <- err
	}()
	pid := p.waiting(t, "%DETACH PARTITION%")

	const stillWaits = `SELECT count(*)::int FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'`
	ctx := within(t)
	newcomer, err := New(ctx, dbtest.Pool(t, p.dsn, nil), Options{Schema: p.schema, PruneInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, newcomer) })
	for i := range 20 {
		for _, node := range []*Store{s, peer, newcomer} {
			if _, err := node.Get(ctx, rec.Key); err != nil {
				t.Fatalf("Get %d: %v", i, err)
			}
		}
		if err := p.pool.QueryRow(ctx, peer.onParent.get, rec.Key.Hash[:], rec.Key.Bucket, nil).Scan(nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil); err != nil {
			t.Fatalf("lookup %d through the parent: %v", i, err)
		}
		if rec, err = peer.Save(ctx, rec); err != nil {
			t.Fatalf("Save %d: %v", i, err)
		}
	}
	other := create(t, peer, "user")
	if _, err := peer.Touch(ctx, other.Key, peer.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if n, err := newcomer.DestroyUser(ctx, "user", rec.Key); n != 1 || err != nil {
		t.Errorf("DestroyUser = %d, %v; want 1", n, err)
	}
	if n := query[int](t, p, stillWaits, pid); n != 1 {
		t.Error("the retirement did not wait for the reader meanwhile")
	}
	endReader()
	if err := <-pruned; err != nil {
		t.Error(err)
	}
	if p.exists(t, past.name) {
		t.Error("the partition is still there")
	}
	mustGet(t, s, rec.Key)
}

func TestAnInterruptedRetirementIsFinished(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		p := migrated(t)
		s := p.open(t, quiet)
		first := p.ended(t, 10)
		hour := p.hour(t)
		second := p.addPart(t, hour-550, hour-500, 0)
		rec := create(t, s, "user")
		endReader := p.reader(t)
		pruned := make(chan error, 1)
		go func() {
			_, err := s.PruneNow(t.Context())
			pruned <- err
		}()
		pid := p.waiting(t, "%DETACH PARTITION%")
		p.exec(t, `SELECT pg_terminate_backend($1)`, pid)
		if err := <-pruned; err == nil {
			t.Error("PruneNow lost its connection and says nothing")
		}
		const pending = `SELECT count(*)::int FROM pg_inherits WHERE inhparent = $1::text::regclass AND inhdetachpending`
		if n := query[int](t, p, pending, s.names.Sessions); n != 1 {
			t.Fatalf("%d partitions are being detached, want 1", n)
		}
		endReader()
		for _, node := range []*Store{s, p.open(t, quiet)} {
			mustGet(t, node, rec.Key)
			create(t, node, "user")
		}
		done := prune(t, at(p).open(t, quiet))
		if done.Retired != 2 || done.Rows != 10 || p.exists(t, first.name) || p.exists(t, second.name) {
			t.Errorf("Retired %d with %d rows, want 2 with 10", done.Retired, done.Rows)
		}
	})
}

func TestDetachedPartitionsAreTakenCareOf(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		p := migrated(t)
		s := at(p).open(t, quiet)
		n := p.names(t)
		past := p.ended(t, 10)
		p.detach(t, past)
		// None of these is one.
		hour := p.hour(t)
		others := map[string]string{
			fmt.Sprint(n.PartitionPrefix, hour-600): "",
			fmt.Sprint(n.PartitionPrefix, hour-601): "a table of my own",
			fmt.Sprint(n.PartitionPrefix, hour-602): "sojourn partition of elsewhere.sessions: 1 to 2",
			fmt.Sprint(n.PartitionPrefix, hour-603): n.PartitionComment(1, 2) + "0 or so",
		}
		for name, comment := range others {
			p.exec(t, `CREATE TABLE `+n.Qualify(name)+` (LIKE `+n.Sessions+` INCLUDING ALL)`)
			if comment != "" {
				p.exec(t, `COMMENT ON TABLE `+n.Qualify(name)+` IS '`+comment+`'`)
			}
		}
		done := prune(t, s)
		if done.Retired != 1 || done.Rows != 10 || p.exists(t, past.name) {
			t.Errorf("Retired %d with %d rows, want 1 with 10", done.Retired, done.Rows)
		}
		for name, comment := range others {
			if !p.exists(t, name) {
				t.Errorf("%s with the comment %q was dropped", name, comment)
			}
		}
	})
}

// What was detached by hand comes back, also when its place was taken since.
func TestAPartitionDetachedBeforeItsTimeComesBack(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		for _, taken := range []string{"free", "taken", "taken in part"} {
			t.Run(taken, func(t *testing.T) {
				t.Parallel()
				p := migratedWith(t, migrations.Settings{PartitionWidth: 83 * time.Hour})
				s := at(p).open(t, quiet)
				bucket := p.hour(t) + 400
				l := p.partOf(t, bucket)
				rec, err := s.Create(t.Context(), lasting(s, bucket))
				if err != nil {
					t.Fatal(err)
				}
				first, err := s.Create(t.Context(), lasting(s, l.lo))
				if err != nil {
					t.Fatal(err)
				}
				dead, err := s.Create(t.Context(), lasting(s, bucket))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Destroy(t.Context(), dead.Key); err != nil {
					t.Fatal(err)
				}
				p.detach(t, l)
				if _, err := s.table.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Get(t.Context(), rec.Key); !errors.Is(err, session.ErrNotFound) {
					t.Fatalf("Get of a detached session: %v", err)
				}
				all := []session.Record{rec, first}
				if taken != "free" {
					if taken == "taken in part" {
						if _, err := migrations.SetSettings(t.Context(), p.pool, p.config(), migrations.Settings{PartitionWidth: 5 * time.Hour}); err != nil {
							t.Fatal(err)
						}
					}
					meanwhile, err := s.Create(t.Context(), lasting(s, bucket))
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, meanwhile)
				}
				prune(t, s)
				if _, err := s.table.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				for i, rec := range all {
					if got, err := s.Get(t.Context(), rec.Key); err != nil || string(got.Data) != "data" {
						t.Errorf("Get of session %d: %v", i, err)
					}
				}
				if _, err := s.Create(t.Context(), dead); !errors.Is(err, session.ErrExists) {
					t.Errorf("Create with the key of a dead session: %v, want ErrExists", err)
				}
				if taken != "free" && p.exists(t, l.name) {
					t.Error("the old table is still there")
				}
				p.covered(t, l.lo, l.hi-1)
				if done := prune(t, s); done.Retired+done.Made > 0 {
					t.Errorf("a second pass did %+v", done)
				}
			})
		}
	})
}

// No row outlives the last hour of its partition, unless somebody sees to it.
func TestAPartitionWithALiveSessionIsKept(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	past := p.ended(t, 10)
	table := p.table(t, past.name)
	for _, of := range []string{s.names.Sessions, table} {
		p.exec(t, `ALTER TABLE `+of+` DROP CONSTRAINT IF EXISTS bucket_is_the_hour_of_the_deadline`)
	}
	revive := func(i int) string {
		return fmt.Sprintf(`UPDATE %s SET deadline = now() + interval '1 hour', expires_at = now() + interval '1 hour' WHERE key = sha256(int8send(%d))`, table, i)
	}
	const live = `SELECT count(*)::int FROM %s WHERE ended_at IS NULL AND expires_at > now()`
	kept := func(err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "holds live sessions") || !strings.Contains(err.Error(), past.name) {
			t.Errorf("PruneNow: %v, want one about the live session", err)
		}
		if n := query[int](t, p, fmt.Sprintf(live, s.names.Sessions)); n != 1 {
			t.Errorf("%d live sessions are left, want 1", n)
		}
		if rows := query[int](t, p, `SELECT count(*)::int FROM `+table); rows != 10 {
			t.Errorf("%d rows are left, want 10", rows)
		}
		if !slices.Contains(p.parts(t), past) {
			t.Errorf("%v is no partition anymore", past)
		}
	}
	if n := p.exec(t, revive(3)); n != 1 {
		t.Fatal("no such row")
	}
	attachment := p.attachment(t, past)
	done, err := s.PruneNow(t.Context())
	kept(err)
	if p.attachment(t, past) != attachment {
		t.Error("it was detached for a while")
	}
	if done.Retired != 0 || done.Rows != 0 {
		t.Errorf("Pruned %+v", done)
	}
	// The same, but it appears after the first look.
	p.exec(t, `UPDATE `+table+` SET expires_at = now() - interval '1 day' WHERE expires_at > now()`)
	endReader := p.reader(t)
	pruned := make(chan error, 1)
	go func() {
		_, err := s.PruneNow(t.Context())
		pruned <- err
	}()
	p.waiting(t, "%DETACH PARTITION%")
	if n := p.exec(t, revive(4)); n != 1 {
		t.Fatal("no such row")
	}
	endReader()
	kept(<-pruned)
	// It goes as soon as it may.
	p.exec(t, `UPDATE `+table+` SET expires_at = now() - interval '1 day' WHERE expires_at > now()`)
	if done := prune(t, s); done.Retired != 1 || done.Rows != 10 {
		t.Errorf("Pruned %+v, want the partition with 10 rows", done)
	}
}

func TestATableWithAPartitionsNameIsNotTouched(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		p := migrated(t)
		unaware, s := p.open(t, quiet), at(p).open(t, quiet)
		bucket := p.hour(t) + 400
		l := p.partOf(t, bucket)
		table := p.table(t, l.name)
		gone, err := s.Create(t.Context(), lasting(s, bucket))
		if err != nil {
			t.Fatal(err)
		}
		p.exec(t, `DROP TABLE `+table)
		p.exec(t, `CREATE TABLE `+table+` AS SELECT 'mine' AS whose`)
		if _, err := unaware.Get(t.Context(), gone.Key); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Get: %v, want ErrNotFound", err)
		}
		if _, err := unaware.Touch(t.Context(), gone.Key, gone.Deadline); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Touch: %v, want ErrNotFound", err)
		}
		if done := prune(t, s); done.Made != 1 {
			t.Errorf("Made = %d, want 1", done.Made)
		}
		if made := p.partOf(t, bucket); made.name == l.name || made.lo != l.lo || made.hi != l.hi {
			t.Errorf("made %v instead of %v", made, l)
		}
		for _, node := range []*Store{unaware, s} {
			rec, err := node.Create(t.Context(), lasting(s, bucket))
			if err != nil {
				t.Fatal(err)
			}
			mustGet(t, s, rec.Key)
			mustGet(t, unaware, rec.Key)
		}
		if got := query[string](t, p, `SELECT whose FROM `+table); got != "mine" {
			t.Errorf("the table has %q", got)
		}
	})
}

func TestManyMayRetireAtOnce(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	var background told
	leading := p.open(t, Options{NextPrune: func() time.Duration { return time.Millisecond }, OnError: background.add})
	dbtest.Eventually(t, "a node leads", func() bool { return leading.Stats().Leading })
	nodes := []*Store{p.open(t, quiet), p.open(t, quiet)}
	hour := p.hour(t)
	const parts = 6
	for i := range int32(parts) {
		l := p.addPart(t, hour-1000+10*i, hour-990+10*i, 10)
		var wg sync.WaitGroup
		for _, node := range append(nodes, leading) {
			wg.Go(func() {
				if _, err := node.PruneNow(t.Context()); err != nil {
					t.Errorf("PruneNow: %v", err)
				}
			})
		}
		wg.Wait()
		if p.exists(t, l.name) {
			t.Errorf("%v is still there", l)
		}
	}
	// The leader may have retired all of them.
	dbtest.Eventually(t, "all partitions are counted once", func() bool {
		var total session.Pruned
		for _, node := range append(nodes, leading) {
			total.Retired += node.Stats().Pruned.Retired
			total.Rows += node.Stats().Pruned.Rows
		}
		return total.Retired == parts && total.Rows == 10*parts
	})
	for _, err := range background.list() {
		t.Errorf("background: %v", err)
	}
}

func TestPruneNowEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	p.ended(t, 10)
	endReader := p.reader(t)
	ctx, cancel := context.WithCancel(t.Context())
	pruned := make(chan error, 1)
	go func() {
		_, err := s.PruneNow(ctx)
		pruned <- err
	}()
	p.waiting(t, "%DETACH PARTITION%")
	cancel()
	if err := <-pruned; !errors.Is(err, context.Canceled) {
		t.Errorf("PruneNow: %v, want the context's error", err)
	}
	endReader()
	if done := prune(t, s); done.Retired != 1 {
		t.Errorf("Retired = %d, want 1", done.Retired)
	}
}

// Nodes agree on the retire grace, and a shorter one takes nothing away that the
// former keeps.
func TestAShorterRetireGraceWaitsForTheFormer(t *testing.T) {
	t.Parallel()
	p := migratedWith(t, hourly)
	s := p.open(t, quiet)
	in := func(want time.Duration) {
		t.Helper()
		f, err := s.table.Refresh(t.Context())
		if err != nil || f.GraceInForce != want {
			t.Errorf("the grace in force is %v, %v; want %v", f.GraceInForce, err, want)
		}
	}
	set := func(grace time.Duration) {
		t.Helper()
		got, err := migrations.SetSettings(t.Context(), p.pool, p.config(), migrations.Settings{RetireGrace: grace})
		if err != nil || got.RetireGrace != max(grace, 0) {
			t.Errorf("SetSettings = %v, %v; want %v", got.RetireGrace, err, grace)
		}
	}
	in(time.Hour)
	set(48 * time.Hour)
	in(48 * time.Hour)
	set(2 * time.Hour)
	in(48 * time.Hour)
	set(time.Hour) // it is the longest of all that may still keep something
	in(48 * time.Hour)
	p.exec(t, `UPDATE `+p.names(t).Meta+` SET retire_grace_changed_at = clock_timestamp() - interval '47 hours'`)
	in(48 * time.Hour)
	p.exec(t, `UPDATE `+p.names(t).Meta+` SET retire_grace_changed_at = clock_timestamp() - interval '49 hours'`)
	in(time.Hour)
	set(2 * time.Hour)
	set(migrations.DefaultRetireGrace)
	in(2 * time.Hour)
	p.exec(t, `UPDATE `+p.names(t).Meta+` SET retire_grace_changed_at = clock_timestamp() - interval '3 hours'`)
	in(time.Hour)
	p.exec(t, `UPDATE `+p.names(t).Meta+` SET foreign_keys = true`)
	in(24 * time.Hour)
	if other, err := New(t.Context(), p.pool, Options{Schema: p.schema, RetireGrace: 2 * time.Hour, PruneInterval: -1}); err == nil || !strings.Contains(err.Error(), "Options.RetireGrace is 2h0m0s") {
		t.Errorf("New with another grace: %v", err)
		if other != nil {
			closeStore(t, other)
		}
	}
}
