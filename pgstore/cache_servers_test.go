package pgstore

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// Anybody who may connect can send anything.
func TestStrangersCanOnlyMakeANodeAskAgain(t *testing.T) {
	t.Parallel()
	p := migratedWith(t, migrations.Settings{Lease: shortLease})
	a := p.cached(t, Options{})
	b, _, writing := p.split(t, Options{})
	stranger := p.login(t, newRoles(t, "stranger ")[0], "")
	if _, err := stranger.pool.Exec(t.Context(), `SELECT FROM `+p.names(t).Sessions); err == nil {
		t.Fatal("the stranger may read")
	}
	listener := dbtest.Conn(t, p.dsn)
	if _, err := listener.Exec(t.Context(), `LISTEN `+quoted(b.channel)); err != nil {
		t.Fatal(err)
	}
	notify := func(payload string) {
		t.Helper()
		if _, err := stranger.pool.Exec(t.Context(), `SELECT pg_notify($1, $2)`, b.channel, payload); err != nil {
			t.Fatal(err)
		}
	}
	raw := func(n int) string { return base64.RawURLEncoding.EncodeToString(make([]byte, n)) }
	rec, changed := create(t, a, "ada"), create(t, a, "ada")

	garbage := []string{"", "1", "garbage", "9k" + raw(24), "1z" + raw(24), "1k" + raw(8), "1k" + raw(25), "1h" + raw(15),
		"1u" + raw(40), "1a" + raw(9), "1k*" + raw(24), "1k" + raw(24) + "\n", strings.Repeat("x", 7999), "1k" + strings.Repeat("é", 3000)}
	for i, payload := range garbage {
		warm(t, rec.Key, b)
		notify(payload)
		dbtest.Eventually(t, fmt.Sprintf("the payload %.20q is noticed", payload), func() bool { return b.Stats().Cache.UnknownPayloads == uint64(i+1) })
		if got := mustGet(t, b, rec.Key); got.Version != rec.Version || got.Key != rec.Key {
			t.Errorf("after %.20q Get = %+v", payload, got)
		}
		awaitLease(t, b)
	}
	// Messages in due form.
	forger := invalidationSender(t)
	for name, payloads := range map[string][]string{
		"keys": forger.Keys(rec.Key), "another key": forger.Keys(changed.Key), "a user": {forger.User("ada")},
		"all": {forger.All()}, "partitions": {forger.Partitions()},
	} {
		warm(t, rec.Key, b)
		heard := messages(b)
		for _, payload := range payloads {
			notify(payload)
		}
		if name != "partitions" {
			dbtest.Eventually(t, "the message about "+name+" comes in", func() bool { return messages(b) > heard })
		}
		if got := mustGet(t, b, rec.Key); got.Version != rec.Version {
			t.Errorf("after a message about %s Get = %+v", name, got)
		}
	}
	// Heartbeats, made up and repeated, are no proof.
	ctx := within(t)
	beats := []string{"1h" + raw(16)}
	for len(beats) < 20 {
		n, err := listener.WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(n.Payload, "1h") {
			beats = append(beats, n.Payload)
		}
	}
	writing.Refuse()
	writing.CutAll()
	dbtest.Eventually(t, "the lease lapses whatever strangers send", func() bool {
		for _, payload := range beats {
			notify(payload)
		}
		return !isLeased(b)
	})
	if err := writing.Heal(); err != nil {
		t.Fatal(err)
	}
	dbtest.Eventually(t, "the lease is back", func() bool { return isLeased(b) && b.pool.Ping(t.Context()) == nil })
	warm(t, rec.Key, b)
	destroyed(t, a, rec.Key)
	awaitRefusal(t, "a logout after all that", b, rec.Key)
}

func invalidationSender(t testing.TB) invalidation.Sender {
	t.Helper()
	c, err := invalidation.NewCache(invalidation.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Sender()
}

func TestBehindAPoolerNothingIsCachedUnlessThereIsAWayAround(t *testing.T) {
	t.Parallel()
	p := migratedWith(t, migrations.Settings{Lease: shortLease})
	behind := p
	behind.dsn = dbtest.Bouncer(t, dbtest.Postgres(t), p.dsn, map[string]string{"default_pool_size": "8"})
	exec := inMode(pgx.QueryExecModeExec)
	a := p.cached(t, Options{})

	var background told
	core, logs := observer.New(zap.DebugLevel)
	b := behind.caching(t, Options{OnError: background.add, Logger: zap.New(core)}, exec)
	failed := func() int { return logs.FilterMessageSnippet("nothing is received").Len() }
	dbtest.Eventually(t, "it has tried to listen again and again", func() bool { return failed() >= 4 })
	var reasons int
	for _, err := range background.list() {
		if errors.Is(err, invalidation.ErrPooled) {
			reasons++
		}
	}
	if n := logs.FilterMessageSnippet("nothing is received").FilterLevelExact(zap.WarnLevel).Len(); n != 1 || reasons != 1 {
		t.Errorf("%d warnings, OnError was told %q; want to hear of the pooler once", n, background.list())
	}
	rec := create(t, a, "ada")
	for range 3 {
		mustGet(t, b, rec.Key)
	}
	if st := b.Stats().Cache; st.Hits != 0 || st.Leased || st.Entries != 0 {
		t.Errorf("Stats: %+v; want nothing from memory", st)
	}
	everything(t, b)
	destroyed(t, a, rec.Key)
	refusesNow(t, "behind the pooler", b, rec.Key)
	own := create(t, b, "ada")
	warm(t, own.Key, a)
	destroyed(t, b, own.Key)
	awaitRefusal(t, "what is written behind a pooler is heard of", a, own.Key)

	var around told
	c := behind.cached(t, Options{DirectDSN: p.dsn, OnError: around.add}, exec)
	rec = create(t, a, "ada")
	warm(t, rec.Key, c)
	destroyed(t, a, rec.Key)
	awaitRefusal(t, "around the pooler", c, rec.Key)
	everything(t, c)
	for _, err := range around.list() { // a busy machine may be late with a heartbeat
		if errors.Is(err, invalidation.ErrPooled) {
			t.Errorf("OnError was told %q", err)
		}
	}
}

func TestALeaseSurvivesARestartOfTheServer(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.Config{})
	p := migratedAt(t, server.Database(t), "sojourn", migrations.Settings{Lease: shortLease})
	a, b := p.cached(t, Options{WriteTimeout: 5 * time.Second}), p.cached(t, Options{WriteTimeout: 5 * time.Second})
	rec, kept := create(t, a, "ada"), create(t, a, "ada")
	for _, end := range []func(){server.Stop, server.Kill} {
		dead := create(t, a, "ada")
		for _, r := range []session.Record{rec, kept, dead} {
			warm(t, r.Key, a, b)
		}
		destroyed(t, a, dead.Key)
		end()
		for _, s := range []*Store{a, b} {
			awaitNoLease(t, s)
			if _, err := s.Get(t.Context(), kept.Key); err == nil || errors.Is(err, session.ErrNotFound) {
				t.Errorf("Get without a server: %v", err)
			}
			if _, err := s.Get(t.Context(), dead.Key); err == nil {
				t.Error("a dead session is served")
			}
		}
		server.Restart(t)
		for _, s := range []*Store{a, b} {
			awaitLease(t, s)
			dbtest.Eventually(t, "reads work", func() bool { _, err := s.Get(t.Context(), kept.Key); return err == nil })
			warm(t, kept.Key, s)
			dbtest.Eventually(t, "the dead session is refused", func() bool {
				_, err := s.Get(t.Context(), dead.Key)
				if err == nil {
					t.Fatal("a dead session is served")
				}
				return isNotFound(err)
			})
		}
		dbtest.Eventually(t, "writes work", func() bool {
			_, err := a.Destroy(t.Context(), create(t, a, "eve").Key)
			return err == nil
		})
	}
	destroyed(t, a, rec.Key)
	awaitRefusal(t, "messages come in", b, rec.Key)
}

func TestAPromotedStandbyIsFollowed(t *testing.T) {
	t.Parallel()
	primary := dbtest.Start(t, dbtest.Config{})
	p := migratedAt(t, primary.Database(t), "sojourn", migrations.Settings{Lease: shortLease})
	p.pool.Reset() // the primary is restarted
	standby := dbtest.Standby(t, primary)
	u, err := url.Parse(p.dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d", primary.Port(), standby.Port())
	q := u.Query()
	q.Set("target_session_attrs", "read-write")
	u.RawQuery = q.Encode()
	p.dsn = u.String()
	p.pool = dbtest.Pool(t, p.dsn, nil)
	opts := Options{WriteTimeout: 5 * time.Second}
	a, b := p.cached(t, opts), p.cached(t, opts)
	dead, rec, kept := create(t, a, "ada"), create(t, a, "ada"), create(t, a, "ada")
	for _, r := range []session.Record{dead, rec, kept} {
		warm(t, r.Key, a, b)
	}
	destroyed(t, a, dead.Key)
	at := query[string](t, p, `SELECT pg_current_wal_flush_lsn()::text`)
	replica := dbtest.Conn(t, standby.DSN(strings.TrimPrefix(u.Path, "/")))
	dbtest.Eventually(t, "the standby is as far", func() bool {
		var done bool
		err := replica.QueryRow(t.Context(), `SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn`, at).Scan(&done)
		return err == nil && done
	})
	primary.Kill()
	for _, s := range []*Store{a, b} {
		awaitNoLease(t, s)
		if _, err := s.Get(t.Context(), kept.Key); err == nil || errors.Is(err, session.ErrNotFound) {
			t.Errorf("Get without a server that takes writes: %v", err)
		}
	}
	standby.Promote(t)
	for _, s := range []*Store{a, b} {
		awaitLease(t, s)
		dbtest.Eventually(t, "reads work", func() bool {
			if _, err := s.Get(t.Context(), dead.Key); err == nil {
				t.Fatal("a dead session is served")
			}
			_, err := s.Get(t.Context(), kept.Key)
			return err == nil
		})
		warm(t, kept.Key, s)
		warm(t, rec.Key, s)
		refusesNow(t, "after the promotion", s, dead.Key)
	}
	dbtest.Eventually(t, "writes work", func() bool { _, err := a.Destroy(t.Context(), rec.Key); return err == nil })
	awaitRefusal(t, "messages come in", b, rec.Key)
}
