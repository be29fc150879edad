package pgstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/dbtest"
	"github.com/sojourn-go/sojourn/internal/loopback"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

func TestOptionsOutOfRangeAreRefusedByName(t *testing.T) {
	t.Parallel()
	p := migrated(t)
	for _, c := range []struct {
		field, value string
		opts         Options
	}{
		{"LongestLifetime", "-1ns", Options{LongestLifetime: -1}},
		{"LeafWidth", "-1h0m0s", Options{LeafWidth: -time.Hour}},
		{"MaxData", "-1", Options{MaxData: -1}},
		{"MaxData", "1073741824", Options{MaxData: 1 << 30}},
		{"MaxUser", "-1", Options{MaxUser: -1}},
		{"MaxUser", "2001", Options{MaxUser: 2001}},
		{"BatchItems", "-1", Options{BatchItems: -1}},
		{"BatchItems", "10001", Options{BatchItems: 10_001}},
		{"BatchBytes", "-1", Options{BatchBytes: -1}},
		{"BatchBytes", "1073741824", Options{BatchBytes: 1 << 30}},
		{"WriteTimeout", "-1s", Options{WriteTimeout: -time.Second}},
		{"WriteTimeout", "1ns", Options{WriteTimeout: 1}},
		{"Premake", "-24h0m0s", Options{Premake: -24 * time.Hour}},
		{"Premake", "23h0m0s", Options{Premake: 23 * time.Hour}},
		{"RetireGrace", "-1h0m0s", Options{RetireGrace: -time.Hour}},
		{"RetireGrace", "59s", Options{RetireGrace: 59 * time.Second}},
	} {
		c.opts.Schema = p.schema
		s, err := New(t.Context(), p.pool, c.opts)
		if s != nil {
			t.Errorf("New with %s = %s made a store", c.field, c.value)
			closeStore(t, s)
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "Options."+c.field+" is "+c.value+";") {
			t.Errorf("New with %s = %s: %v", c.field, c.value, err)
		}
	}
	if n := p.pool.Stat().AcquireCount(); n != 0 {
		t.Errorf("the database was asked %d times", n)
	}
}

// refusedNew checks that New fails, mentions what it has to, and leaves no
// connection behind but those of the caller's pool.
func refusedNew(t *testing.T, p place, opts Options, want error, mentions ...string) {
	t.Helper()
	name := "refused " + fmt.Sprint(time.Now().UnixNano())
	pool := dbtest.Pool(t, p.dsn, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["application_name"] = name })
	if opts.Schema == "" {
		opts.Schema = p.schema
	}
	s, err := New(t.Context(), pool, opts)
	if s != nil {
		t.Errorf("New made a store")
		closeStore(t, s)
		return
	}
	if want != nil {
		wantErr(t, "New", err, want)
	}
	for _, text := range mentions {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("New: %v; it does not mention %s", err, text)
		}
	}
	if strings.Contains(fmt.Sprint(err), "sekrit") {
		t.Errorf("the error has the password in it: %v", err)
	}
	pool.Close()
	if p.pool == nil {
		return
	}
	dbtest.Eventually(t, "no connection is left", func() bool {
		return query[int](t, p, `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1`, name) == 0
	})
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()

	t.Run("options that differ from the stored ones", func(t *testing.T) {
		t.Parallel()
		p := migrated(t)
		refusedNew(t, p, Options{LongestLifetime: time.Hour}, nil, "Options.LongestLifetime", "1h0m0s", "720h0m0s")
		refusedNew(t, p, Options{LeafWidth: time.Hour}, nil, "Options.LeafWidth", "1h0m0s", "83h0m0s")
		p.node(t, Options{LongestLifetime: 720 * time.Hour, LeafWidth: 83 * time.Hour}, 2)
	})
	t.Run("a direct DSN that is none", func(t *testing.T) {
		t.Parallel()
		refusedNew(t, migrated(t), Options{DirectDSN: "postgres://user:sekrit@127.0.0.1:port/"}, nil, "Options.DirectDSN")
	})
	t.Run("names that are none", func(t *testing.T) {
		t.Parallel()
		p := migrated(t)
		refusedNew(t, p, Options{Table: strings.Repeat("x", 64)}, migrations.ErrInvalid)
		refusedNew(t, p, Options{Table: "a\x00b"}, migrations.ErrInvalid)
		refusedNew(t, p, Options{Schema: "a\xffb"}, migrations.ErrInvalid)
	})
	t.Run("no Postgres", func(t *testing.T) {
		t.Parallel()
		port, err := loopback.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		p := place{dsn: fmt.Sprintf("postgres://postgres:sekrit@127.0.0.1:%d/postgres?sslmode=disable", port), schema: "s"}
		refusedNew(t, p, Options{}, nil, fmt.Sprint(port), `schema "s"`, `table "sessions"`)
	})
	t.Run("a role or password that is wrong", func(t *testing.T) {
		t.Parallel()
		p := migrated(t)
		config, err := pgx.ParseConfig(p.dsn)
		if err != nil {
			t.Fatal(err)
		}
		for role, code := range map[string]string{"postgres": "28P01", "nobody_of_this_name": "28000"} {
			bad := p
			bad.dsn = fmt.Sprintf("postgres://%s:sekrit@127.0.0.1:%d/%s?sslmode=disable", role, config.Port, config.Database)
			refusedNew(t, bad, Options{}, nil, code, role)
		}
	})
	t.Run("a schema that is missing", func(t *testing.T) {
		t.Parallel()
		refusedNew(t, migrated(t), Options{Schema: "not there"}, migrations.ErrSchemaMissing, `"not there"`)
	})
	t.Run("a schema that was not migrated", func(t *testing.T) {
		t.Parallel()
		dsn, schema := dbtest.Postgres(t).Schema(t)
		p := place{dsn, schema, dbtest.Pool(t, dsn, nil)}
		refusedNew(t, p, Options{}, migrations.ErrNotMigrated, schema, "sessions")
		refusedNew(t, migrated(t), Options{Table: "others"}, migrations.ErrNotMigrated, `"others"`)
	})
	t.Run("a table of another shape", func(t *testing.T) {
		t.Parallel()
		dsn, schema := dbtest.Postgres(t).Schema(t)
		p := place{dsn, schema, dbtest.Pool(t, dsn, nil)}
		p.exec(t, `CREATE TABLE `+schema+`.sessions (sid text PRIMARY KEY, sess json, expire timestamp)`)
		refusedNew(t, p, Options{}, migrations.ErrForeignTable, schema, "sessions")
		changed := migrated(t)
		changed.exec(t, `ALTER TABLE `+changed.schema+`.sessions ALTER COLUMN version TYPE numeric`)
		refusedNew(t, changed, Options{}, migrations.ErrForeignTable, changed.schema, "version")
	})
	t.Run("a newer version", func(t *testing.T) {
		t.Parallel()
		p := migrated(t)
		p.exec(t, `UPDATE `+p.schema+`.sessions_meta SET schema_version = 9`)
		create(t, p.node(t, Options{}, 2), "ada") // it says that older programs can use it
		p.exec(t, `UPDATE `+p.schema+`.sessions_meta SET min_compatible = 8`)
		refusedNew(t, p, Options{}, migrations.ErrIncompatible, p.schema, "sessions", "9", "8")
	})
	t.Run("a context that has ended", func(t *testing.T) {
		t.Parallel()
		p := migrated(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s, err := New(ctx, p.pool, Options{Schema: p.schema})
		if s != nil {
			closeStore(t, s)
		}
		wantErr(t, "New", err, context.Canceled)
	})
}

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
	longest := s.Window().Longest

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
		{"a user over the limit", func(r *session.Record) { r.User = strings.Repeat("u", 21) }, session.ErrTooLarge, "Record.User has 21 bytes; the limit is 20", everyone},
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
		{"an expiry that has passed", func(r *session.Record) { r.Expires = s.Now().Add(-time.Hour) }, session.ErrDeadline, "Record.Expires has passed", append(creators[:4:4], put)},
		{"an expiry before all time", func(r *session.Record) { r.Expires = time.Unix(-1<<55, 0) }, session.ErrDeadline, "Record.Expires has passed", append(creators[:4:4], put)},
	} {
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
				before := fingerprint(t, p)
				err := w.do(rec)
				wantErr(t, what, err, c.want)
				if err != nil && !strings.Contains(err.Error(), c.mention) {
					t.Errorf("%s: %v; want %q in it", what, err, c.mention)
				}
				if fingerprint(t, p) != before {
					t.Fatalf("%s changed the table", what)
				}
			}
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
	long := strings.Repeat("u", 256)
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
		{"ListUser over the limit", func() error { _, err := s.ListUser(ctx, long); return err }, session.ErrTooLarge, "user has 256 bytes; the limit is 255"},
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
		"Clear":       func(ctx context.Context) error { _, err := s.Clear(ctx); return err },
		"ListUser":    func(ctx context.Context) error { _, err := s.ListUser(ctx, rec.User); return err },
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

// counter counts what is sent to the server.
type counter struct{ n *atomic.Int64 }

func (c counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// Ten thousand guesses cost nothing but one lookup for each that could be an
// ID, and leave no trace in the server's log.
func TestAFloodOfForgedIDs(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.Config{})
	p := migratedAt(t, server.Database(t), "sojourn", migrations.Settings{})
	var asked atomic.Int64
	s := p.node(t, Options{}, 8, func(c *pgxpool.Config) { c.ConnConfig.Tracer = counter{&asked} })
	real := session.NewID(s.Now().Add(time.Hour))
	if _, err := s.Create(t.Context(), session.Record{Key: real.Key(), Deadline: s.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}

	forged := func(hours time.Duration) session.ID { return session.NewID(s.Now().Add(hours * time.Hour)) }
	text := real.Secret()
	var texts []string
	for i := range 2000 {
		texts = append(texts,
			text[:i%48],                               // cut short
			text+strings.Repeat("A", 1+i%3),           // too long
			text[:i%47]+"'"+text[i%47+1:],             // of another alphabet
			text[:i%47]+"\x00"+text[i%47+1:],          // with a NUL
			forged(-10_000-time.Duration(i)).Secret(), // long gone
			forged(10_000+time.Duration(i)).Secret(),  // not yet possible
		)
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	texts = append(texts, "", string(raw), base64.StdEncoding.EncodeToString(raw[:33]), strings.Repeat("=", 48), strings.Repeat("\xff", 48))

	log, before := server.Log(), asked.Load()
	for _, text := range texts {
		id, err := session.ParseID(text, s.Window())
		wantErr(t, "ParseID", err, session.ErrInvalidID)
		if !id.IsZero() {
			t.Fatal("ParseID returned an ID")
		}
	}
	for i := range 2000 { // who skips ParseID gets no further
		key := forged(time.Duration([]int{-10_000 - i, 10_000 + i}[i%2])).Key()
		_, err := s.Get(t.Context(), key)
		wantErr(t, "Get of an impossible key", err, session.ErrNotFound)
		_, err = s.Save(t.Context(), session.Record{Key: key, Version: 1})
		wantErr(t, "Save of an impossible key", err, session.ErrNotFound)
		_, err = s.Touch(t.Context(), key, s.Now())
		wantErr(t, "Touch of an impossible key", err, session.ErrNotFound)
		_, err = s.Renew(t.Context(), key, fresh(s, ""), 0)
		wantErr(t, "Renew of an impossible key", err, session.ErrNotFound)
		n, err := s.Destroy(t.Context(), key)
		wantErr(t, "Destroy of an impossible key", err, nil)
		if n != 0 {
			t.Errorf("Destroy ended %d", n)
		}
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("what cannot be an ID was asked for %d times", n)
	}

	const plausible = 2000
	concurrently(t, 8, plausible/8, func(i int) {
		id, err := session.ParseID(forged(1+time.Duration(i)%700).Secret(), s.Window())
		wantErr(t, "ParseID", err, nil)
		_, err = s.Get(t.Context(), id.Key())
		wantErr(t, "Get of an unknown key", err, session.ErrNotFound)
	})
	if n := asked.Load() - before; n != plausible {
		t.Errorf("%d lookups for %d plausible IDs", n, plausible)
	}
	if got := server.Log(); got != log {
		t.Errorf("the server's log grew: %s", got[len(log):])
	}
	if _, err := s.Get(t.Context(), real.Key()); err != nil {
		t.Errorf("Get of the real one: %v", err)
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
		got, err := s.ListUser(t.Context(), user)
		if err != nil || len(got) != 1 || got[0].User != user || !bytes.Equal(got[0].Data, rec.Data) {
			t.Errorf("ListUser(%q) = %v, %v", user, got, err)
		}
	}
}
