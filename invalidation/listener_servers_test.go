package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/invalidation"
)

// newRole creates a role that may log in; attributes are those of CREATE ROLE.
func newRole(t testing.TB, server *dbtest.Server, attributes string, settings ...string) string {
	t.Helper()
	// Roles are the server's: only their names keep tests apart.
	role := fmt.Sprintf("role_%d", time.Now().UnixNano())
	db := dbtest.Conn(t, server.DSN("postgres"))
	stmt := "CREATE ROLE " + role + " LOGIN " + attributes
	for _, s := range settings {
		stmt += "; ALTER ROLE " + role + " SET " + s
	}
	if _, err := db.Exec(within(t), stmt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), hangs)
		defer cancel()
		if _, err := db.Exec(ctx, "DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	return role
}

func TestTheListenerSurvivesARestartOfTheServer(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(*dbtest.Server){"stop": (*dbtest.Server).Stop, "crash": (*dbtest.Server).Kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := dbtest.Start(t, dbtest.Config{})
			n := start(t, setup{dsn: server.DSN("postgres")})
			n.awaitLease(t)
			before := n.cache.Reserve(newKey()).Server()
			down(server)
			dbtest.Eventually(t, "attempts to connect", func() bool { return n.dials.Load() >= 3 })
			if n.leased() {
				t.Error("it answers without a server")
			}
			server.Restart(t)
			n.awaitLease(t)
			if after := n.cache.Reserve(newKey()).Server(); !after.After(before) {
				t.Errorf("rows have to come from the server that was started at %v, want one after %v", after, before)
			}
			if got := n.logs.FilterMessageSnippet("the server has changed").Len(); got != 0 {
				t.Error("a restart is taken for another server")
			}
		})
	}
}

func TestTimeoutsOfTheRoleDoNotEndTheListener(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	dsn := server.Database(t)
	role := newRole(t, server, "", "idle_session_timeout = '50ms'", "statement_timeout = '50ms'", "lock_timeout = '50ms'",
		"idle_in_transaction_session_timeout = '50ms'")
	n := start(t, setup{dsn: dsn, lease: 4 * time.Second, adjust: func(o *invalidation.ListenOptions) {
		o.Config.User, o.Config.Password = role, ""
	}})
	dbtest.Eventually(t, "three heartbeats", func() bool { return n.echoes() >= 3 })
	if stats := n.cache.Stats(); stats.Disconnects != 0 || n.dials.Load() != 1 {
		t.Errorf("%d connections, %+v; want the first to last", n.dials.Load(), stats)
	}
}

func TestARoleThatMayNotAskForTheTimelineListens(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	dsn := server.Database(t)
	db := dbtest.Conn(t, dsn)
	if _, err := db.Exec(within(t), `REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC`); err != nil {
		t.Fatal(err)
	}
	role := newRole(t, server, "")
	n := start(t, setup{dsn: dsn, adjust: func(o *invalidation.ListenOptions) {
		o.Config.User, o.Config.Password = role, ""
	}})
	n.awaitLease(t)
	terminate(t, db)
	dbtest.Eventually(t, "the gap", func() bool { return n.cache.Stats().Disconnects == 1 })
	n.awaitLease(t)
	if got := n.logs.FilterMessageSnippet("the server has changed").Len(); got != 0 {
		t.Error("what cannot be known is taken for another server")
	}
}

func TestAStandbyIsNotListenedToUntilItIsPromoted(t *testing.T) {
	t.Parallel()
	primary := dbtest.Start(t, dbtest.Config{})
	standby := dbtest.Standby(t, primary)
	n := start(t, setup{dsn: standby.DSN("postgres"), write: primary.DSN("postgres"), adjust: func(o *invalidation.ListenOptions) {
		o.Beat = notifyThrough(writePath(t, standby.DSN("postgres")), channel)
	}})
	dbtest.Eventually(t, "three attempts", func() bool { return n.dials.Load() >= 3 })
	if n.leased() || !n.cache.Reserve(newKey()).Server().IsZero() {
		t.Error("a standby is listened to")
	}
	if told := n.errors(); len(told) != 1 {
		t.Errorf("told %v, want it once", told)
	}
	primary.Kill()
	standby.Promote(t)
	n.awaitLease(t)
}

func TestAPromotedStandbyIsFollowed(t *testing.T) {
	t.Parallel()
	primary := dbtest.Start(t, dbtest.Config{})
	standby := dbtest.Standby(t, primary)
	dsn := both(t, primary.DSN("postgres"), standby.DSN("postgres"))
	n := start(t, setup{dsn: dsn})
	n.awaitLease(t)
	key := newKey()
	n.remember(t, key)
	before := n.cache.Reserve(newKey()).Server()
	primary.Kill()
	standby.Promote(t)
	n.awaitLease(t)
	if after := n.cache.Reserve(newKey()).Server(); after.IsZero() || after.Equal(before) {
		t.Errorf("rows have to come from the server that was started at %v, the one before at %v", after, before)
	}
	if n.has(key) {
		t.Error("an entry of the server before is answered")
	}
	changed := n.logs.FilterMessageSnippet("the server has changed").All()
	if len(changed) != 1 {
		t.Fatalf("%d lines say that the server has changed, want one", len(changed))
	}
	fields := changed[0].ContextMap()
	was, is := fields["before"].(map[string]any), fields["now"].(map[string]any)
	if was["timeline"] != "00000001" || is["timeline"] != "00000002" || was["system"] != is["system"] {
		t.Errorf("it says %v", fields)
	}
}

// both is a DSN of two hosts of which the one that takes writes is used.
func both(t testing.TB, first, second string) string {
	t.Helper()
	a, err := url.Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := url.Parse(second)
	if err != nil {
		t.Fatal(err)
	}
	a.Host += "," + b.Host
	query := a.Query()
	query.Set("target_session_attrs", "read-write")
	a.RawQuery = query.Encode()
	return a.String()
}

func TestHeartbeatsThatCannotComeBackAreExplainedOnce(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	for name, tc := range map[string]struct {
		setup func(testing.TB) setup
		want  error
	}{
		"a pooler is listened to": {func(t testing.TB) setup {
			dsn := server.Database(t)
			return setup{dsn: dbtest.Bouncer(t, server, dsn, nil), write: dsn}
		}, invalidation.ErrPooled},
		"another server is written to": {func(t testing.TB) setup {
			return setup{dsn: server.DSN("postgres"), write: dbtest.Start(t, dbtest.Config{}).DSN("postgres")}
		}, invalidation.ErrOtherServer},
		"another database is written to": {func(t testing.TB) setup {
			return setup{dsn: server.Database(t), write: server.Database(t)}
		}, invalidation.ErrOtherDatabase},
		"another channel is written to": {func(t testing.TB) setup {
			return setup{dsn: server.Database(t), adjust: func(o *invalidation.ListenOptions) { o.Channel = "elsewhere" }}
		}, invalidation.ErrNoEcho},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, tc.setup(t))
			n.awaitError(t, tc.want)
			dbtest.Eventually(t, "it goes on trying", func() bool { return n.dials.Load() >= 4 })
			// A busy machine has heartbeats that were not sent in time too.
			told := slices.DeleteFunc(n.errors(), func(err error) bool { return !errors.Is(err, tc.want) })
			if len(told) != 1 || n.leased() {
				t.Fatalf("told %v, want it once and no lease", n.errors())
			}
			warned := n.logs.FilterLevelExact(zap.WarnLevel).Filter(func(e observer.LoggedEntry) bool {
				return e.ContextMap()["error"] == told[0].Error()
			})
			if got := warned.Len(); got != 1 {
				t.Errorf("%d warnings, want one", got)
			}
			if text := told[0].Error(); strings.Contains(text, "password") {
				t.Errorf("it says %s", text)
			}
		})
	}
}

func TestHeartbeatsMayGoThroughAPooler(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	dsn := server.Database(t)
	n := start(t, setup{dsn: dsn, write: dbtest.Bouncer(t, server, dsn, nil)})
	n.awaitLease(t)
	seen := n.echoes()
	dbtest.Eventually(t, "three more heartbeats", func() bool { return n.echoes() >= seen+3 })
	if stats := n.cache.Stats(); stats.Silences+stats.Disconnects != 0 {
		t.Errorf("%+v; want no gap", stats)
	}
}
