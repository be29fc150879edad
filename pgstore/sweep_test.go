package pgstore

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sojourn-go/sojourn/pgstore/internal/partition"
	"github.com/sojourn-go/sojourn/session"
)

// A partition is worth a look from partition.SweepLeast pages on.
const sweptRows = 10 * partition.SweepLeast

// idle fills a partition: the share of ten of its sessions has been idle for
// two days.
func (p place) idle(t testing.TB, table string, bucket int32, share int) {
	t.Helper()
	p.exec(t, fillSQL(table, bucket, 1, sweptRows, 600,
		fmt.Sprintf(`CASE WHEN i %% 10 < %d THEN now() - interval '2 days' ELSE now() + interval '1 hour' END`, share)))
	if pages := query[int](t, p, `SELECT (pg_relation_size($1::text::regclass) / 8192)::int`, table); pages < partition.SweepLeast {
		t.Fatalf("the partition has %d pages, too few", pages)
	}
}

func TestMostlyIdlePartitionsAreThinned(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		p := migrated(t)
		s := at(p).open(t, quiet)
		hour := p.hour(t)
		bucket := hour + 400
		table := p.table(t, p.partOf(t, bucket).name)
		p.idle(t, table, bucket, 9)
		other := p.table(t, p.partOf(t, hour+10).name)
		p.idle(t, other, hour+10, 2)
		ended, recent, live := numbered(11, bucket), numbered(12, bucket), numbered(19, bucket)
		p.exec(t, `UPDATE `+table+` SET ended_at = expires_at, user_id = NULL, data = NULL WHERE key = $1`, ended.Hash[:])
		// A write that began before it expired may still be under way.
		p.exec(t, `UPDATE `+table+` SET expires_at = now() - interval '50 minutes' WHERE key = $1`, recent.Hash[:])

		const count = `SELECT count(*) FILTER (WHERE version > 0)::int FROM `
		done := prune(t, s)
		if want := int64(sweptRows*9/10 - 2); done.Emptied != want || done.Rows != 0 {
			t.Errorf("%d rows went, want %d", done.Emptied, want)
		}
		if n := query[int](t, p, count+table); n != sweptRows {
			t.Errorf("%d rows are left, want all %d", n, sweptRows)
		}
		for what, key := range map[string]session.Key{"ended": ended, "just expired": recent, "live": live} {
			if n := query[int](t, p, count+table+` WHERE key = $1`, key.Hash[:]); n != 1 {
				t.Errorf("the session that is %s is gone", what)
			}
		}
		mustGet(t, s, live)
		wantFate(t, s, recent, session.FateExpired)
		wantFate(t, s, numbered(21, bucket), session.FateExpired)
		if n := query[int](t, p, count+other); n != sweptRows {
			t.Errorf("%d rows of the partition that is mostly live are left, want all %d", n, sweptRows)
		}
	})
}

// A key that does not tell its deadline could be put again.
func TestForeignSessionsAreThinnedToTombstones(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		p := migrated(t)
		s := at(p).open(t, quiet)
		bucket := p.hour(t) + 400
		table := p.table(t, p.partOf(t, bucket).name)
		token := session.ForeignKey("test", "token")
		put := session.Record{Key: token, Deadline: lasting(s, bucket).Deadline, User: "user", Data: []byte("secret")}
		if _, err := s.Put(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		p.idle(t, table, bucket, 9)
		p.exec(t, `UPDATE `+table+` SET expires_at = now() - interval '2 days' WHERE key = $1`, token.Hash[:])
		if done := prune(t, s); done.Emptied != sweptRows*9/10+1 {
			t.Errorf("%d rows were thinned, want %d", done.Emptied, sweptRows*9/10+1)
		}
		if n := query[int](t, p, `SELECT count(*)::int FROM `+table+` WHERE version > 0`); n != sweptRows+1 {
			t.Errorf("%d rows are left, want all %d", n, sweptRows+1)
		}
		if n := query[int](t, p, `SELECT count(*)::int FROM `+table+` WHERE version > 0 AND ended_at IS NOT NULL AND data IS NULL AND user_id IS NULL`); n != sweptRows*9/10+1 {
			t.Errorf("%d rows are tombstones, want %d", n, sweptRows*9/10+1)
		}
		for _, node := range []*Store{s, p.open(t, quiet)} {
			if _, err := node.Put(t.Context(), put); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("a late Put: %v, want ErrNotFound", err)
			}
			if _, err := node.Get(t.Context(), token); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("Get: %v, want ErrNotFound", err)
			}
			wantFate(t, node, token, session.FateExpired)
		}
		if done := prune(t, s); done.Emptied != 0 {
			t.Errorf("a second pass thinned %d rows", done.Emptied)
		}
	})
}

// What can be won decides, not how many tombstones there are.
func TestTombstonesDoNotKeepAPartitionFromBeingThinned(t *testing.T) {
	eachHand(t, func(t *testing.T, at func(place) place) {
		p := migrated(t)
		s := at(p).open(t, quiet)
		bucket := p.hour(t) + 400
		table := p.table(t, p.partOf(t, bucket).name)
		p.exec(t, fillSQL(table, bucket, 1, 11_000, 600, `now() - interval '2 days'`))
		p.exec(t, fillSQL(table, bucket, 11_001, 11_001, 600, `now() + interval '1 hour'`))
		p.exec(t, fillSQL(table, bucket, 11_002, 25_001, 0, `now() + interval '1 hour'`))
		p.exec(t, `UPDATE `+table+` SET ended_at = now(), user_id = NULL, data = NULL WHERE octet_length(data) = 0`)
		if done := prune(t, s); done.Emptied != 11_000 {
			t.Errorf("%d rows were thinned, want 11,000", done.Emptied)
		}
		mustGet(t, s, numbered(11_001, bucket))
		if done := prune(t, s); done.Emptied != 0 {
			t.Errorf("a second pass thinned %d rows", done.Emptied)
		}
	})
}

// Rows whose data is kept apart take few pages of the table itself.
func TestPartitionsWithLargeDataAreThinned(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	bucket := p.hour(t) + 400
	table := p.table(t, p.partOf(t, bucket).name)
	p.exec(t, `ALTER TABLE `+table+` ALTER COLUMN data SET STORAGE EXTERNAL`)
	p.exec(t, fillSQL(table, bucket, 1, 1000, 20_000, `now() - interval '2 days'`))
	if done := prune(t, s); done.Emptied != 1000 {
		t.Errorf("%d rows were thinned, want 1,000", done.Emptied)
	}
}
