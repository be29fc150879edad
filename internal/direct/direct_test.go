package direct_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/internal/direct"
	"github.com/sojourn-go/sojourn/internal/pooled"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
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

// open returns a connection that is closed when the test ends.
func open(t testing.TB, s *direct.Source, opts direct.Options) *direct.Conn {
	t.Helper()
	conn, err := s.Connect(within(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func show(t testing.TB, conn *direct.Conn, setting string) string {
	t.Helper()
	var value string
	if err := conn.QueryRow(within(t), `SELECT current_setting($1)`, setting).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
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

func TestTimeoutsOfTheRoleDoNotEndTheConnection(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	dsn := server.Database(t)
	timeouts := []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"}
	if server.Version() >= 17 {
		timeouts = append(timeouts, "transaction_timeout")
	}
	var settings strings.Builder
	for _, name := range timeouts {
		fmt.Fprintf(&settings, "ALTER ROLE $role SET %s = '100ms'; ", name)
	}
	c := config(t, dsn)
	c.User, c.Password = newRole(t, server, settings.String()), ""

	conn := open(t, direct.New(c), direct.Options{})
	// An idle connection without the settings shows when it is too late.
	other, err := pgx.ConnectConfig(within(t), c)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(within(t))
	var pgErr *pgconn.PgError
	if _, err := other.WaitForNotification(within(t)); !errors.As(err, &pgErr) || pgErr.Code != "57P05" {
		t.Fatalf("an idle session ended with %v, want the role's timeout", err)
	}
	for _, name := range timeouts {
		if value := show(t, conn, name); value != "0" {
			t.Errorf("%s is %s, want 0", name, value)
		}
	}
	if _, err := conn.Exec(within(t), "RESET ALL"); err != nil {
		t.Error(err)
	}
	for _, name := range timeouts {
		if name == "transaction_timeout" {
			continue // unknown to 16 and older, hence not a startup parameter
		}
		if value := show(t, conn, name); value != "0" {
			t.Errorf("%s is %s after RESET ALL, want 0", name, value)
		}
	}
}

func TestTheServerIsToldToWatchTheConnection(t *testing.T) {
	t.Parallel()
	conn := open(t, direct.New(config(t, dbtest.Postgres(t).Database(t))), direct.Options{})
	for name, want := range map[string]string{
		"client_connection_check_interval": "1s",
		"tcp_keepalives_idle":              "5",
		"tcp_keepalives_interval":          "2",
		"tcp_keepalives_count":             "3",
		"tcp_user_timeout":                 "10000",
	} {
		if got := show(t, conn, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestASettingThatTheServerRefusesIsLeftOut(t *testing.T) {
	t.Parallel()
	source := direct.New(config(t, dbtest.Postgres(t).Database(t)))
	source.SetSetting("client_connection_check_interval", "on a full moon") // 22023
	source.SetSetting("no_such_setting", "1")                               // 42704
	open(t, source, direct.Options{})
	left := source.Settings()
	if len(left) != 9 || left["client_connection_check_interval"] != "" || left["statement_timeout"] != "0" {
		t.Errorf("it goes on with %v, want all but the two refused", left)
	}
}

func TestAPoolerIsFoundOut(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	ignored := "statement_timeout,lock_timeout,idle_in_transaction_session_timeout,idle_session_timeout," +
		"client_connection_check_interval,tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,tcp_user_timeout"
	for name, settings := range map[string]map[string]string{
		"that refuses startup parameters": nil,
		"that ignores startup parameters": {"ignore_startup_parameters": ignored},
		"in session mode":                 {"ignore_startup_parameters": ignored, "pool_mode": "session"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bouncer := dbtest.Bouncer(t, server, server.Database(t), settings)
			if _, err := direct.New(config(t, bouncer)).Connect(within(t), direct.Options{}); !errors.Is(err, pooled.Err) {
				t.Errorf("Connect returned %v, want ErrPooled", err)
			}
		})
	}
}

func TestTheHooksOfAPoolAreHonoured(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	dsn := server.Database(t)
	role := newRole(t, server, "")
	password := config(t, dsn).Password
	pool := dbtest.Pool(t, dsn, func(c *pgxpool.Config) {
		c.ConnConfig.Password = "expired"
		c.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			c.Password = password
			return nil
		}
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "SET ROLE "+role+"; SET statement_timeout = '5s'")
			return err
		}
	})
	conn := open(t, direct.FromPool(pool), direct.Options{})
	if user, timeout := show(t, conn, "role"), show(t, conn, "statement_timeout"); user != role || timeout != "0" {
		t.Errorf("role %s with statement_timeout %s; want %s without", user, timeout, role)
	}
}

func TestTheNameFitsIntoWhatPostgresKeeps(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	long := strings.Repeat("x", 100)
	for _, tc := range []struct{ given, config, name, renamed string }{
		{long, "config", long[:63], long[:58] + " role"},
		{"schéma\n", "config", "sch?ma?", "sch?ma? role"},
		{"", "config", "config", "config role"},
		{"", "", "fallback", "fallback role"},
	} {
		c := config(t, dsn)
		c.RuntimeParams["application_name"] = tc.config
		conn := open(t, direct.New(c), direct.Options{Name: tc.given, Fallback: "fallback"})
		if got := show(t, conn, "application_name"); got != tc.name {
			t.Errorf("it is called %q, want %q", got, tc.name)
		}
		if err := conn.Rename(within(t), " role"); err != nil {
			t.Error(err)
		}
		if got := show(t, conn, "application_name"); got != tc.renamed {
			t.Errorf("it is called %q, want %q", got, tc.renamed)
		}
	}
}

func TestAServerThatTakesNoWritesIsRefused(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	c := config(t, server.Database(t))
	c.User, c.Password = newRole(t, server, "ALTER ROLE $role SET default_transaction_read_only = on"), ""
	if conn, err := direct.New(c).Connect(within(t), direct.Options{}); err == nil {
		conn.Cut()
		t.Error("connected to a server that takes no writes")
	}
}

func TestAHostThatDoesNotAnswerLeavesTimeForTheNext(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	proxy, silent := dbtest.Proxy(t, dsn)
	proxy.SetMode(faultproxy.ToClient, faultproxy.Stall())
	first, err := url.Parse(silent)
	if err != nil {
		t.Fatal(err)
	}
	second, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	first.Host += "," + second.Host
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // of which the first may use up half
	defer cancel()
	conn, err := direct.New(config(t, first.String())).Connect(ctx, direct.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if got := conn.PgConn().Conn().RemoteAddr().String(); got != second.Host {
		t.Errorf("connected to %s, want %s", got, second.Host)
	}
}

func TestAMissingConfigIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := direct.New(nil).Connect(t.Context(), direct.Options{}); err == nil || !strings.Contains(err.Error(), "pgx.ParseConfig") {
		t.Errorf("Connect returned %v", err)
	}
}

// Counts the connections of one that is cut while it waits for an answer that
// the network loses.
func TestACutConnectionLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, noCancel := range map[string]bool{"and asks the server to stop": false, "and asks nobody": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, dsn := dbtest.Proxy(t, dbtest.Postgres(t).Database(t))
			c := config(t, dsn)
			var dials atomic.Int64
			dial := c.DialFunc
			c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				return dial(ctx, network, addr)
			}
			conn := open(t, direct.New(c), direct.Options{NoCancel: noCancel})
			waiting, ended := make(chan struct{}), make(chan error, 1)
			proxy.SetMode(faultproxy.ToServer, faultproxy.Drop())
			proxy.SetMode(faultproxy.ToClient, faultproxy.Drop())
			go func() {
				close(waiting)
				_, err := conn.WaitForNotification(context.Background())
				ended <- err
			}()
			<-waiting
			conn.Cut()
			if err := <-ended; err == nil {
				t.Error("it goes on waiting")
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := conn.Close(ctx); err != nil {
				t.Error(err)
			}
			want := int64(2)
			if noCancel {
				want = 1
			}
			if got := dials.Load(); got != want {
				t.Errorf("%d connections were made, want %d", got, want)
			}
		})
	}
}
