package pgstore

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// secrets collects what must not be seen anywhere, and where one may look.
type secrets struct {
	mu     sync.Mutex
	texts  []string
	errors []error
}

func (x *secrets) id(deadline time.Time) session.ID {
	id := session.NewID(deadline)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.texts = append(x.texts, id.Secret())
	return id
}

func (x *secrets) token(n int) session.Key {
	token := fmt.Sprintf("token-of-%d-%s", n, session.NewID(time.Now()).Secret())
	x.mu.Lock()
	defer x.mu.Unlock()
	x.texts = append(x.texts, token)
	return session.ForeignKey("test", token)
}

func (x *secrets) saw(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		x.errors = append(x.errors, err)
	}
}

// forms are the ways in which bytes show up in logs and dumps.
func forms(secret string) []string {
	raws := [][]byte{[]byte(secret)}
	if raw, err := base64.RawURLEncoding.DecodeString(secret); err == nil {
		raws = append(raws, raw, raw[:32]) // the 32 that are random, without the bucket
	}
	var out []string
	for _, raw := range raws {
		escaped := ""
		for _, b := range raw {
			if b >= 32 && b < 127 && b != '\\' {
				escaped += string(rune(b))
			} else {
				escaped += fmt.Sprintf(`\%03o`, b)
			}
		}
		out = append(out, string(raw), escaped, fmt.Sprint(raw), strings.Trim(fmt.Sprintf("%q", raw), `"`),
			hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
			strings.TrimRight(base64.StdEncoding.EncodeToString(raw), "="),
			strings.TrimRight(base64.URLEncoding.EncodeToString(raw), "="))
	}
	return out
}

// The server logs every statement with its parameters, the store all it has to
// say, and some things go wrong.
func TestNoSecretIsSeenAnywhere(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.Config{Settings: map[string]string{
		"log_statement": "all", "log_min_duration_statement": "0", "log_min_messages": "debug1",
		"log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1", "log_error_verbosity": "verbose",
		"log_connections": "on", "log_disconnections": "on",
	}})
	p := migratedAt(t, server.Database(t), "sojourn", migrations.Settings{})
	core, logged := observer.New(zapcore.DebugLevel)
	var x secrets
	s := p.node(t, Options{
		PruneInterval: time.Hour, WriteTimeout: 5 * time.Second, NodeName: "node",
		Logger: zap.New(core), OnError: x.saw,
	}, 8, func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["deadlock_timeout"] = "10ms"
	})
	ctx := t.Context()

	rejected := x.id(s.Now().Add(24 * time.Hour)).Key()
	p.reject(t, rejected)
	concurrently(t, 4, 10, func(n int) {
		deadline := s.Now().Add(24 * time.Hour)
		rec := session.Record{Key: x.id(deadline).Key(), Deadline: deadline, User: fmt.Sprint("user", n%5), Data: []byte("data")}
		if n%4 == 3 {
			rec.Key = x.token(n)
		}
		made, err := s.Create(ctx, rec)
		x.saw(err)
		_, err = s.Create(ctx, rec) // again
		x.saw(err)
		for _, call := range anyCalls(s, made) {
			if n == 7 {
				break
			}
			x.saw(call(ctx)) // in any order: many of them find it dead
		}
		bad := rec
		bad.Key = rejected
		_, err = s.Create(ctx, bad)
		x.saw(err)
		bad = rec
		bad.Key.Bucket++
		bad.User = "\xff"
		_, err = s.Create(ctx, bad)
		x.saw(err)
		_, err = s.Save(ctx, session.Record{Key: x.id(deadline.Add(1e6 * time.Hour)).Key(), Version: 1})
		x.saw(err)
		_, err = session.ParseID(x.id(deadline).Secret() + "=")
		x.saw(err)
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		_, err = s.Save(short, made)
		x.saw(err)
	})
	// A constraint that is violated, and a statement that waits too long: the
	// server says what row that is about.
	rec := create(t, s, "ada")
	p.exec(t, fmt.Sprintf(`ALTER TABLE sojourn.sessions ADD CONSTRAINT no_more CHECK (version <= %d) NOT VALID`, rec.Version))
	_, err := s.Save(ctx, rec)
	wantErr(t, "Save against a constraint", err, err)
	x.saw(err)
	_, err = s.PruneNow(ctx)
	x.saw(err)
	stats, err := json.Marshal(s.Stats())
	if err != nil {
		t.Fatal(err)
	}

	seen := map[string]string{"the server's log": server.Log(), "Stats": string(stats)}
	for _, table := range []string{"sessions", "sessions_meta"} {
		seen["table "+table] = query[string](t, p, `SELECT coalesce(string_agg(x::text, E'\n'), '') FROM sojourn.`+table+` AS x`)
	}
	seen["pg_stat_activity"] = query[string](t, p, `SELECT string_agg(x::text, E'\n') FROM pg_stat_activity AS x`)
	for i, entry := range logged.All() {
		text, err := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()).EncodeEntry(entry.Entry, entry.Context)
		if err != nil {
			t.Fatal(err)
		}
		seen[fmt.Sprint("log entry ", i)] = text.String()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, err := range x.errors {
		seen[fmt.Sprint("error ", i)] = fmt.Sprintf("%v %+v %#v", err, err, err)
		for cause := err; cause != nil; cause = errors.Unwrap(cause) {
			seen[fmt.Sprint("error ", i)] += fmt.Sprintf(" %+v %#v", cause, cause)
		}
	}
	// The search would find them: what is derived from them is there.
	hash := hex.EncodeToString(rejected.Hash[:])
	if !strings.Contains(seen["the server's log"], hash) || len(x.errors) < 100 || len(seen) < 100 {
		t.Fatalf("too little was seen: %d places, %d errors", len(seen), len(x.errors))
	}
	// A part of a secret is too much already.
	const part = 16
	parts := map[string]string{}
	for _, secret := range x.texts {
		for _, form := range forms(secret) {
			parts[form[:part]] = form
		}
	}
	for where, text := range seen {
		for i := range max(0, len(text)-part+1) {
			if form, ok := parts[text[i:i+part]]; ok {
				t.Fatalf("%s has a part of a secret in it, which is %q in full", where, form)
			}
		}
	}
}
