package invalidation

import (
	"bytes"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

func TestBadOptionsAreNamed(t *testing.T) {
	t.Parallel()
	for want, opts := range map[string]CacheOptions{
		"MaxBytes is -1": {MaxBytes: -1},
		"MaxAge is -1s":  {MaxAge: -time.Second},
	} {
		if _, err := NewCache(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
}

func TestWhatIsCachedComesBackAsItWas(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	want := sceneRow(1, 7)
	s.fill(want)
	row, ok := s.Get(sceneKey(1))
	got := row.Record
	if !ok || got.Key != want.Record.Key || got.Version != 7 || got.User != "ada" || !bytes.Equal(got.Data, want.Record.Data) ||
		!got.Created.Equal(want.Record.Created) || !got.Expires.Equal(want.Record.Expires) || !got.Deadline.Equal(want.Record.Deadline) {
		t.Errorf("got %+v, %v; want %+v", got, ok, want.Record)
	}
	if got.Expires.Location() != time.UTC {
		t.Errorf("times are in %v, want UTC", got.Expires.Location())
	}
	rec, ok := s.Session(sceneKey(1))
	if !ok || rec.Version != 7 || rec.Key != want.Record.Key {
		t.Errorf("Session = %+v, %v", rec, ok)
	}

	next := Row{Next: sceneKey(1), Life: time.Second}
	s.Fill(s.Reserve(sceneKey(2)), next)
	if got, ok := s.Get(sceneKey(2)); !ok || got.Next != next.Next || got.Record.Data != nil || got.Record.Version != 0 {
		t.Errorf("got %+v, %v; want only the successor", got, ok)
	}
	if rec, ok := s.Session(sceneKey(2)); ok {
		t.Errorf("Session of a redirect = %+v", rec)
	}
	s.pass(time.Second)
	if got, ok := s.Get(sceneKey(2)); ok {
		t.Errorf("after the grace period: got %+v", got)
	}
}

func TestALongerExpiryMakesANewEntry(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	s.fill(sceneRow(1, 1))
	before, _ := s.find(sceneKey(1))
	was := *before
	s.Extend(sceneKey(1), sceneServer.Add(30*time.Minute))
	after, _ := s.find(sceneKey(1))
	if before == after || before.expires != was.expires || after.expires == was.expires {
		t.Error("an entry that readers may hold was changed")
	}
}

func TestTheLifeOfARowEndsByTheClockOfTheDatabase(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	ticket := s.Reserve(sceneKey(1))
	s.stay(time.Second) // the answer takes its time
	row := sceneRow(1, 1)
	row.Life = 3 * time.Second
	s.Fill(ticket, row)
	s.stay(2*time.Second - 1)
	s.wantVersion(1, 1)
	s.pass(1)
	s.wantVersion(1, 0)

	row.Life = 0 // it came from another server
	s.fill(row)
	s.wantVersion(1, 0)
	row.Life = -time.Second
	s.fill(row)
	s.wantVersion(1, 0)
}

func TestEntriesAreReadAgainAfterTheirMaximumAge(t *testing.T) {
	t.Parallel()
	const age = 12 * time.Second
	s := newScene(t, CacheOptions{MaxAge: age})
	const n = 200
	for i := range n {
		row := sceneRow(i, 1)
		row.Life = time.Hour
		s.fill(row)
	}
	left := func() (hits int) {
		for i := range n {
			if _, ok := s.Get(sceneKey(i)); ok {
				hits++
			}
		}
		return hits
	}
	s.stay(age - age/6 - 1)
	if got := left(); got != n {
		t.Errorf("%d of %d entries are there before five sixths of the age", got, n)
	}
	s.stay(age / 12)
	if got := left(); got == 0 || got == n {
		t.Errorf("%d of %d entries are there in the last sixth: they go together", got, n)
	}
	s.stay(age/12 + 1)
	if got := left(); got != 0 {
		t.Errorf("%d entries are older than the maximum age", got)
	}
}

func TestExtendMovesTheExpiryForwardAndNoFurtherThanTheDeadline(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	s.fill(sceneRow(1, 1))
	s.Fill(s.Reserve(sceneKey(2)), Row{Next: sceneKey(1), Life: time.Minute})
	at := sceneServer.Add
	for _, c := range []struct{ to, want time.Time }{
		{at(2 * time.Minute), at(2 * time.Minute)},
		{at(time.Minute), at(2 * time.Minute)},
		{at(2 * time.Hour), at(time.Hour)},
	} {
		if got, ok := s.Extend(sceneKey(1), c.to); !ok || !got.Equal(c.want) {
			t.Errorf("Extend to %v = %v, %v; want %v", c.to, got, ok, c.want)
		}
		if got, _ := s.Get(sceneKey(1)); !got.Record.Expires.Equal(c.want) {
			t.Errorf("after Extend to %v it expires at %v, want %v", c.to, got.Record.Expires, c.want)
		}
	}
	if _, ok := s.Extend(sceneKey(2), at(time.Hour)); ok {
		t.Error("a renewed session was extended")
	}
	if _, ok := s.Extend(sceneKey(3), at(time.Hour)); ok {
		t.Error("a session that is not there was extended")
	}
	s.stay(time.Minute) // it has not been read again
	s.wantVersion(1, 0)
	if _, ok := s.Extend(sceneKey(1), at(time.Hour)); ok {
		t.Error("an entry past its life was extended")
	}
	s.fill(sceneRow(1, 1))
	s.pass(modelLease + 1)
	if _, ok := s.Extend(sceneKey(1), at(time.Hour)); ok {
		t.Error("an entry was extended without a lease")
	}
}

func TestTheEndOfAUsersSessionsLeavesOthers(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	ada, bob, none := sceneRow(1, 1), sceneRow(2, 1), sceneRow(3, 1)
	bob.Record.User, none.Record.User = "bob", ""
	for name, end := range map[string]func(){
		"here":      func() { s.BeginUser("ada").End() },
		"elsewhere": func() { s.Receive(s.other().User("ada")) },
	} {
		s.fill(ada, bob, none)
		end()
		s.wantVersion(1, 0)
		s.wantVersion(2, 1)
		s.wantVersion(3, 1)
		s.fill(ada) // logged in again
		if got, ok := s.Get(sceneKey(1)); !ok || got.Record.User != "ada" {
			t.Errorf("%s: a session that was read after the end is not served", name)
		}
	}
}

func TestKeysWithTheSameTokenAreToldApart(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	one, two := sceneRow(1, 1), sceneRow(1, 2)
	two.Record.Key.Hash[31]++
	s.fill(one)
	if got, ok := s.Get(two.Record.Key); ok {
		t.Errorf("got %+v for another key", got)
	}
	s.fill(two)
	if got, ok := s.Get(two.Record.Key); !ok || got.Record.Version != 2 {
		t.Errorf("got %+v, %v", got, ok)
	}
	s.wantVersion(1, 0)
	s.fill(one) // the version is no older: it is of another session
	s.wantVersion(1, 1)
}

func TestTheCacheStaysWithinItsBytes(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	s := newScene(t, CacheOptions{MaxBytes: limit})
	data := make([]byte, 600)
	var weight int64
	var k session.Key
	for i := 0; weight < 10*limit; i++ {
		k.Hash[0], k.Hash[1], k.Hash[2] = byte(i), byte(i>>8), byte(i>>16)
		row := sceneRow(1, 1)
		row.Record.Key, row.Record.Data = k, data
		s.fill(row)
		weight += int64(newEntry(k, row).weight())
		if got := s.Stats().Bytes; got > limit+limit/10 {
			t.Fatalf("the cache holds %d bytes after %d entries, more than %d", got, i, limit)
		}
	}
	stats := s.Stats()
	if stats.Bytes > limit || stats.Bytes < limit/2 || stats.Entries < limit/2/1000 {
		t.Errorf("the cache holds %d bytes in %d entries, of at most %d", stats.Bytes, stats.Entries, limit)
	}
	row := sceneRow(9, 1)
	row.Record.Data = make([]byte, 2*limit)
	s.fill(row)
	s.wantVersion(9, 0)
}

func TestAnEntryWeighsWhatItKeepsAlive(t *testing.T) {
	t.Parallel()
	row := sceneRow(1, 1)
	row.Record.Data = make([]byte, 10, 1000) // the whole array stays
	if got, want := newEntry(row.Record.Key, row).weight(), uint32(entryOverhead+len("ada")+1000); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
}

func TestStatsCountWhatHappens(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	s.Get(sceneKey(1))
	s.fill(sceneRow(1, 1))
	s.Get(sceneKey(1))
	s.Session(sceneKey(1))
	ticket := s.Reserve(sceneKey(2))
	s.Receive(s.other().Keys(sceneKey(2))[0])
	s.Fill(ticket, sceneRow(2, 1))
	ticket = s.Reserve(sceneKey(2))
	s.Gap(CauseSilence, errScene)
	s.Fill(ticket, sceneRow(2, 1))
	if got := s.Stats(); got.Leased || got.LeaseAge != math.MaxInt64 || got.Entries != 0 || got.Silences != 1 || got.RefusedByEpoch != 1 {
		t.Errorf("after a gap: %+v", got)
	}
	s.listen()
	s.fill(sceneRow(1, 1))
	s.prove()
	s.pass(time.Second)
	got := s.Stats()
	got.Echoes, got.Bytes = session.CacheStats{}.Echoes, 0
	want := session.CacheStats{
		Hits: 2, Misses: 1, RefusedByGeneration: 1, RefusedByEpoch: 1, Messages: 1, Silences: 1,
		Leased: true, LeaseAge: time.Second, Entries: 1,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Otter has to be linearizable for one key, or an old entry could come back.
func TestNoReadGoesBackToBeforeAnInvalidation(t *testing.T) {
	t.Parallel()
	c, err := NewCache(CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Listening(sceneServer); err != nil {
		t.Fatal(err)
	}
	c.Receive(c.Beat(time.Hour).Payload())
	const writes = 3000
	var stored, acknowledged atomic.Int64 // versions in the database, and known to be
	var hits atomic.Int64
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		wg.Go(func() { // reads, and fills the cache when it misses
			for {
				select {
				case <-done:
					return
				default:
				}
				least := acknowledged.Load()
				row, ok := c.Get(sceneKey(1))
				if ok {
					hits.Add(1)
				} else {
					t := c.Reserve(sceneKey(1))
					row = sceneRow(1, stored.Load())
					c.Fill(t, row)
				}
				if row.Record.Version < least {
					t.Errorf("read version %d (from the cache: %v) after %d was acknowledged", row.Record.Version, ok, least)
					return
				}
			}
		})
	}
	wg.Go(func() {
		defer close(done)
		for i := int64(1); i <= writes || hits.Load() == 0; i++ {
			var w *Write
			switch i % 4 {
			case 0, 1:
				w = c.Begin(sceneKey(1))
			case 2:
				w = c.BeginUser("ada")
			case 3:
				w = c.BeginAll()
			}
			stored.Store(i)
			if i%4 == 0 {
				w.Wrote(sceneRow(1, i))
			}
			w.End()
			acknowledged.Store(i)
		}
	})
	wg.Wait()
	t.Logf("%d hits", hits.Load())
}
