package leader_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/pglock"
)

// patience is a limit that is only reached when something hangs.
const patience = dbtest.Patience

func config(t testing.TB, dsn string) *pgx.ConnConfig {
	t.Helper()
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// open returns a session that the test closes, at its end if not before.
func open[C any](t testing.TB, l leader.Locker[C]) leader.Session[C] {
	t.Helper()
	s, err := l.Open(within(t), leader.MinSilence)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

func shut[C any](t testing.TB, s leader.Session[C]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

func lock[C any](t testing.TB, s leader.Session[C]) bool {
	t.Helper()
	ok, err := s.TryLock(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestOnlyOneSessionHasTheLockUntilItCloses(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	// Keys whose halves are negative, zero or all ones in pg_locks.
	for _, key := range []int64{0, 1, -1, math.MinInt64, math.MaxInt64, 1 << 32, 1<<31 + 5, -(1 << 32), leader.Key("a")} {
		locker := pglock.New(config(t, dsn), key, "a name")
		first, second := open(t, locker), open(t, locker)
		if err := first.Verify(within(t)); err == nil {
			t.Errorf("key %d: verified before it was locked", key)
		}
		if info, err := pglock.Holder(within(t), db, key); !errors.Is(err, leader.ErrNoLeader) {
			t.Errorf("key %d: Holder returned %+v, %v before it was locked, want ErrNoLeader", key, info, err)
		}
		if !lock(t, first) || lock(t, second) {
			t.Fatalf("key %d: want the first session to have the lock, the second not", key)
		}
		if err := first.Verify(within(t)); err != nil {
			t.Errorf("key %d: %v", key, err)
		}
		if err := second.Verify(within(t)); err == nil {
			t.Errorf("key %d: the second session verified a lock of the first", key)
		}
		info, err := pglock.Holder(within(t), db, key)
		if err != nil || info.PID != int32(first.Conn().PgConn().PID()) || info.ApplicationName != "a name (leader)" ||
			info.ClientAddr != "127.0.0.1" || info.Since.IsZero() || info.Since.Location() != time.UTC {
			t.Errorf("key %d: Holder returned %+v, %v", key, info, err)
		}
		if ok, err := first.TryLock(within(t)); ok || err == nil {
			t.Errorf("key %d: a second TryLock returned %v, %v; want an error", key, ok, err)
		}
		shut(t, first)
		dbtest.Eventually(t, "the second session gets the lock", func() bool { return lock(t, second) })
		shut(t, second)
	}
}

func TestALockWithTwoIntegersIsAnother(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	s := open(t, pglock.New(config(t, dsn), 7<<32|9, ""))
	if _, err := s.Conn().Exec(within(t), `SELECT pg_advisory_lock(7, 9)`); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(within(t)); err == nil {
		t.Error("verified by a lock of the other key space")
	}
	if _, err := pglock.Holder(within(t), s.Conn(), 7<<32|9); !errors.Is(err, leader.ErrNoLeader) {
		t.Errorf("Holder returned %v, want ErrNoLeader", err)
	}
	if _, err := s.Conn().Exec(within(t), `SELECT pg_advisory_lock_shared($1)`, int64(7<<32|9)); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(within(t)); err == nil {
		t.Error("verified by a shared lock")
	}
}

func TestLocksOfOtherDatabasesDoNotCount(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	key := leader.Key(t.Name())
	here, there := server.Database(t), server.Database(t)
	if !lock(t, open(t, pglock.New(config(t, there), key, ""))) {
		t.Fatal("no lock")
	}
	if _, err := pglock.Holder(within(t), dbtest.Conn(t, here), key); !errors.Is(err, leader.ErrNoLeader) {
		t.Errorf("Holder returned %v, want ErrNoLeader", err)
	}
	if !lock(t, open(t, pglock.New(config(t, here), key, ""))) {
		t.Error("a lock of another database is in the way")
	}
}

func TestTheNameFitsIntoWhatPostgresKeeps(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	long := strings.Repeat("x", 100)
	for name, want := range map[string]string{
		long:       long[:54] + " (leader)",
		"schéma\n": "sch?ma? (leader)",
		"":         "from config (leader)",
	} {
		c := config(t, dsn)
		c.RuntimeParams["application_name"] = "from config"
		key := leader.Key(t.Name(), name)
		if !lock(t, open(t, pglock.New(c, key, name))) {
			t.Fatal("no lock")
		}
		info, err := pglock.Holder(within(t), db, key)
		if err != nil || info.ApplicationName != want {
			t.Errorf("Holder returned %q, %v; want %q", info.ApplicationName, err, want)
		}
	}
}

func TestARoleWithoutRightsStillSeesWhoLeads(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	dsn := server.Database(t)
	role := newRole(t, server, "")
	key := leader.Key(t.Name())
	s := open(t, pglock.New(config(t, dsn), key, "n"))
	if !lock(t, s) {
		t.Fatal("no lock")
	}
	c := config(t, dsn)
	c.User, c.Password = role, ""
	db, err := pgx.ConnectConfig(within(t), c)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(within(t))
	info, err := pglock.Holder(within(t), db, key)
	want := pglock.Info{PID: int32(s.Conn().PgConn().PID()), ApplicationName: "n (leader)"}
	if err != nil || info != want {
		t.Errorf("Holder returned %+v, %v; want %+v", info, err, want)
	}
}

// newRole creates a role that may log in; $role in settings stands for it. It is
// dropped after the test and must own nothing by then.
func newRole(t testing.TB, server *dbtest.Server, settings string) string {
	t.Helper()
	// Roles are the server's: only their names keep tests apart.
	role := fmt.Sprintf("role_%d", time.Now().UnixNano())
	db := dbtest.Conn(t, server.DSN("postgres"))
	if _, err := db.Exec(within(t), "CREATE ROLE "+role+" LOGIN; "+strings.ReplaceAll(settings, "$role", role)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := db.Exec(ctx, "DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	return role
}

func pgCode(err error, code string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == code
}

func TestAPoolerIsFoundOut(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	for name, settings := range map[string]map[string]string{
		"that refuses startup parameters": nil,
		"that ignores startup parameters": {"ignore_startup_parameters": "statement_timeout,lock_timeout," +
			"idle_in_transaction_session_timeout,idle_session_timeout,client_connection_check_interval," +
			"tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,tcp_user_timeout"},
		"in session mode": {"pool_mode": "session", "ignore_startup_parameters": "statement_timeout,lock_timeout," +
			"idle_in_transaction_session_timeout,idle_session_timeout,client_connection_check_interval," +
			"tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,tcp_user_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := server.Database(t)
			bouncer := dbtest.Bouncer(t, server, direct, settings)
			key := leader.Key(t.Name())
			err := leader.Run(within(t), pglock.New(config(t, bouncer), key, ""), leader.Options{},
				func(context.Context, *leader.Term[*pgx.Conn]) error {
					t.Error("leading through a pooler")
					return nil
				})
			if !errors.Is(err, leader.ErrPooled) {
				t.Errorf("Run returned %v, want ErrPooled", err)
			}
			if info, err := pglock.Holder(within(t), dbtest.Conn(t, direct), key); !errors.Is(err, leader.ErrNoLeader) {
				t.Errorf("a session of the pooler was left with the lock: %+v, %v", info, err)
			}
			// Asking who leads needs no session, so a pooler is no obstacle.
			if _, err := pglock.Holder(within(t), dbtest.Pool(t, bouncer, nil), key); !errors.Is(err, leader.ErrNoLeader) {
				t.Errorf("Holder through the pooler returned %v, want ErrNoLeader", err)
			}
		})
	}
}

func TestAWrongPasswordIsRetriedAndShown(t *testing.T) {
	t.Parallel()
	c := config(t, dbtest.Postgres(t).Database(t))
	c.Password = "wrong"
	var states recorder
	e := contend(t, pglock.New(c, 1, ""), leader.Options{Poll: 20 * time.Millisecond, OnChange: states.record}, lead)
	dbtest.Eventually(t, "three failures", func() bool { return states.last().Failures >= 3 })
	if err := states.last().Err; !pgCode(err, "28P01") {
		t.Errorf("the state shows %v, want the server's error", err)
	}
	e.stop()
}

func TestAMissingConfigIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := pglock.New(nil, 1, "").Open(t.Context(), leader.MinSilence); err == nil || !strings.Contains(err.Error(), "pgx.ParseConfig") {
		t.Errorf("Open returned %v", err)
	}
}
