package pgstore

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// at gives a record a key of a chosen place in the order of keys.
func at(rec session.Record, first byte) session.Record {
	rec.Key.Hash[0] = first
	return rec
}

func TestClearEndsWhatIsRenewedBehindIt(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	a, b := p.open(t, quiet), p.open(t, quiet)
	bucket := p.hour(t) + 20
	var recs []session.Record
	for _, first := range []byte{0x80, 0xf0} {
		rec, err := a.Create(t.Context(), at(lasting(a, bucket), first))
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, rec)
	}
	// Rows of one page are met together, so there are pages before the second.
	p.exec(t, fmt.Sprintf(`
INSERT INTO %s (key, bucket, version, expires_at, deadline, created_at)
SELECT set_byte(sha256(int8send(i)), 0, 160), %d, 1, d, d, d - interval '1 day'
FROM generate_series(1, 3000) AS i, to_timestamp(%[2]d::float8 * 3600) AS d`, p.names(t).Sessions, bucket))
	_, commit := p.lockRows(t, recs[0].Key)
	clear := async(func() error { _, err := b.Clear(t.Context()); return err })
	p.waiting(t, "%WITH page AS%")
	first := recs[1]
	for _, place := range []byte{0x10, 0xf8, 0x20} { // behind, ahead and behind
		next := at(lasting(a, bucket), place)
		next.Version = first.Version
		renewed, err := a.Renew(t.Context(), first.Key, next, time.Hour)
		if err != nil {
			t.Fatalf("Renew while Clear waits for another session: %v", err)
		}
		first = renewed
	}
	if _, err := a.Create(t.Context(), lasting(a, bucket)); err != nil {
		t.Errorf("Create while Clear waits for a session: %v", err)
	}
	if isLive(t, p, first.Key) != true {
		t.Error("the successor is not live before Clear meets it")
	}
	commit()
	wantErr(t, "Clear", <-clear, nil)
	for _, rec := range append(recs, first) {
		if isLive(t, p, rec.Key) {
			t.Errorf("%v is live after Clear", rec.Key)
		}
	}
}

func TestClearEndsWhatIsRenewedIntoANewPartition(t *testing.T) {
	t.Parallel()
	p := migratedWith(t, hourly)
	bucket := p.hour(t) + 5
	a, b := p.open(t, quiet), p.open(t, quiet)
	held, err := a.Create(t.Context(), at(lasting(a, bucket), 0x80))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := a.Create(t.Context(), lasting(a, bucket+1))
	if err != nil {
		t.Fatal(err)
	}
	p.exec(t, `DROP TABLE `+p.table(t, p.partOf(t, bucket+10).name))
	_, commit := p.lockRows(t, held.Key)
	clear := async(func() error { _, err := b.Clear(t.Context()); return err })
	p.waiting(t, "%WITH page AS%")
	next := lasting(a, bucket+10)
	next.Version = rec.Version
	if next, err = a.Renew(t.Context(), rec.Key, next, 0); err != nil {
		t.Fatal(err)
	}
	commit()
	wantErr(t, "Clear", <-clear, nil)
	if isLive(t, p, next.Key) {
		t.Error("what a session was renewed to, in a partition that was made meanwhile, is live after Clear")
	}
}

func TestClearStartsAgainWhenAPartitionVanishes(t *testing.T) {
	t.Parallel()
	p := migratedWith(t, hourly)
	a, b := p.open(t, quiet), p.open(t, quiet)
	bucket := p.hour(t) + 10
	rec, err := a.Create(t.Context(), lasting(a, bucket))
	if err != nil {
		t.Fatal(err)
	}
	tx, commit := p.lockRows(t, rec.Key)
	clear := async(func() error { _, err := b.Clear(t.Context()); return err })
	p.waiting(t, "%WITH page AS%")
	// As when it was renewed into a partition that the walk has left, and its own
	// was dropped while Clear was suspended.
	for _, sql := range []string{
		fillSQL(p.names(t).Sessions, bucket-5, 1, 1, 10, "d"),
		`DROP TABLE ` + p.table(t, p.partOf(t, bucket).name),
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	commit()
	wantErr(t, "Clear", <-clear, nil)
	if isLive(t, p, numbered(1, bucket-5)) {
		t.Error("what the session was renewed to is live after Clear")
	}
}

func TestALimitThatIsNewEndsThousands(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	s := p.open(t, quiet)
	bucket := p.hour(t) + 20
	const user, many = "user", 2500
	crowd := func() {
		t.Helper()
		for _, sql := range []string{
			fillSQL(p.names(t).Sessions, bucket, 1, many, 10, "d"),
			`UPDATE ` + p.names(t).Sessions + ` SET user_id = 'user' WHERE user_id IS NOT NULL`,
		} {
			p.exec(t, sql)
		}
	}
	limit := session.UserLimit{Max: 3, Evict: true}
	check := func(what string, made session.Record, evicted []session.Key, err error) {
		t.Helper()
		distinct := slices.Clone(evicted)
		slices.SortFunc(distinct, session.Key.Compare)
		if distinct = slices.Compact(distinct); err != nil || len(distinct) != many-2 {
			t.Errorf("%s evicted %d sessions, %v; want %d", what, len(distinct), err, many-2)
		}
		if n := liveCount(t, p, user); n != 3 || !isLive(t, p, made.Key) {
			t.Errorf("after %s %d sessions are live, want 3, the new one among them", what, n)
		}
	}
	crowd()
	made, evicted, err := s.CreateLimited(t.Context(), fresh(s, user), limit)
	check("CreateLimited", made, evicted, err)
	if _, err := s.DestroyUser(within(t), user); err != nil {
		t.Fatal(err)
	}
	p.exec(t, `DELETE FROM `+p.names(t).Sessions)
	// The first of all is what is renewed: it makes no room.
	old := create(t, s, user)
	p.exec(t, `UPDATE `+p.names(t).Sessions+` SET created_at = '1970-01-01' WHERE key = $1`, old.Key.Hash[:])
	crowd()
	next := fresh(s, user)
	next.Version = old.Version
	made, evicted, err = s.RenewLimited(t.Context(), old.Key, next, 0, limit)
	check("RenewLimited", made, evicted, err)
}

// BenchmarkClear ends a million sessions while others log in, and all of a user
// who has a hundred thousand.
func BenchmarkClear(b *testing.B) {
	n := size(1_000_000)
	p := benchPlace(b, hourly)
	s := p.open(b, quiet)
	hour := int32(s.table.Known.Load().Partitions[0].Lo)
	fill := func(rows int) {
		b.Helper()
		for i := range int32(8) {
			p.exec(b, fillSQL(p.names(b).Sessions, hour+8+i, 1, rows/8, 600, "d"))
		}
		p.exec(b, `VACUUM ANALYZE`)
	}
	during := func(name string, end func(context.Context) (int64, error)) {
		b.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var slowest time.Duration
		logins := async(func() error {
			for ctx.Err() == nil {
				began := time.Now()
				if _, err := s.Create(context.Background(), lasting(s, hour+20)); err != nil {
					return err
				}
				slowest = max(slowest, time.Since(began))
			}
			return nil
		})
		began := time.Now()
		if _, err := end(context.Background()); err != nil {
			b.Error(err)
		}
		took := time.Since(began)
		cancel()
		if err := <-logins; err != nil {
			b.Error(err)
		}
		b.ReportMetric(took.Seconds(), name+"_s")
		b.ReportMetric(float64(slowest.Milliseconds()), name+"_slowest_login_ms")
	}
	b.ReportMetric(0, "ns/op")
	fill(n)
	during("clear", s.Clear)
	p.exec(b, `TRUNCATE `+p.names(b).Sessions)
	fill(n / 10)
	p.exec(b, `UPDATE `+p.names(b).Sessions+` SET user_id = 'user' WHERE user_id IS NOT NULL`)
	during("user", func(ctx context.Context) (int64, error) { return s.DestroyUser(ctx, "user") })
}
