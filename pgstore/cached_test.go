package pgstore

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/session"
)

// An empty cache and a slow database must not take the application's last
// connection.
func TestReadsLeaveConnectionsToTheApplication(t *testing.T) {
	t.Parallel()
	p := leasing(t, lasting60)
	s := p.cached(t, Options{NodeName: "reader"}, func(c *pgxpool.Config) { c.MaxConns = 4 })
	var keys []session.Key
	for range 10 {
		keys = append(keys, create(t, s, "").Key)
	}
	s.cache.BeginAll().End()
	_, commit := p.foreign(t, `LOCK TABLE `+s.names.Sessions+` IN ACCESS EXCLUSIVE MODE`)
	var reads []<-chan error
	for _, key := range keys {
		reads = append(reads, async(func() error { _, err := s.Get(within(t), key); return err }))
	}
	dbtest.Eventually(t, "three reads wait in the server", func() bool { return blocked(t, p) == 3 && len(s.fills) == 3 })
	var one int
	if err := s.pool.QueryRow(within(t), `SELECT 1`).Scan(&one); err != nil {
		t.Errorf("the application's own query: %v", err)
	}
	commit()
	for _, err := range results(reads) {
		wantErr(t, "Get", err, nil)
	}
}

// Otherwise each read of a busy session would be a query.
func TestASessionIsReadFromMemoryWhileItIsSaved(t *testing.T) {
	t.Parallel()
	s := leasing(t, lasting60).cached(t, Options{})
	rec := create(t, s, "ada")
	inMemory := func(when, want string) {
		t.Helper()
		got, _ := s.cache.Get(rec.Key)
		if string(got.Record.Data) != want {
			t.Errorf("%s: memory has %q, want %q", when, got.Record.Data, want)
		}
	}
	release := holdLane(t, s.writes.Saves)
	save := async(saving(s, rec, "new"))
	dbtest.Eventually(t, "the save was taken", func() bool { return taken(s.writes.Saves) == 1 && queued(s.writes.Saves) == 0 })
	inMemory("while it is saved", string(rec.Data))
	if _, err := s.cache.Receive(s.cache.Sender().Keys(rec.Key)[0]); err != nil {
		t.Fatal(err)
	}
	inMemory("after its message has come in", "")
	release()
	wantErr(t, "Save", <-save, nil)
	inMemory("when it is saved", "new")
}

// Nothing tells whether the messages that come in are about its rows.
func TestRowsOfAnotherServerAreNotKept(t *testing.T) {
	t.Parallel()
	p := leasing(t, shortLease)
	s := p.cached(t, Options{})
	rec := create(t, s, "ada")
	if err := s.cache.Listening(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	awaitLease(t, s)
	before := s.Stats().Cache
	for range 3 {
		mustGet(t, s, rec.Key)
		rec.Data = append(rec.Data, '.')
		var err error
		if rec, err = s.Save(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Stats().Cache; st.Hits != before.Hits || st.RefusedByServer != before.RefusedByServer+3 || st.Entries != 0 {
		t.Errorf("%d reads were answered from memory, %d rows refused, %d kept; want 0, 3 and 0",
			st.Hits-before.Hits, st.RefusedByServer-before.RefusedByServer, st.Entries)
	}
}
