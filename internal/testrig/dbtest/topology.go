package dbtest

import (
	"net/url"
	"testing"

	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/internal/testrig/pgserver"
)

// Bouncer starts PgBouncer in transaction mode in front of dsn, a database of
// s, and returns the DSN to use instead. The settings are those of its section
// [pgbouncer]. It ends with the test, which is skipped when PgBouncer is not
// installed, and fails where CI=true is set.
//
// Versions before 1.21 do not know prepared statements: use another
// [pgx.QueryExecMode] than the default. Startup parameters in a DSN are refused.
func Bouncer(t testing.TB, _ *Server, dsn string, settings map[string]string) string {
	t.Helper()
	b, err := pgserver.StartBouncer(t.Context(), dsn, settings)
	if err != nil {
		missing(t, err, pgserver.ErrNoBouncer, pgserver.BouncerHint())
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error("dbtest:", err)
		}
	})
	return b.DSN()
}

// Standby starts a hot standby of the primary, which is restarted meanwhile
// and so must be a server of the test's own. It is deleted when the test ends.
func Standby(t testing.TB, primary *Server) *Server {
	t.Helper()
	if primary.shared {
		t.Fatal("dbtest: other tests use this server; Start a primary of your own")
	}
	pg, err := pgserver.StartStandby(t.Context(), primary.pg, pgserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &Server{own(t, pg.Server), &postgres{pg: pg}}
}

// Promote makes a standby a primary and returns when it accepts writes.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.do("promote", func() error { return s.pg.Promote(t.Context()) })
}

// Proxy starts a proxy that can break the connections to the server of dsn, and
// returns it and the DSN to use instead. It ends with the test.
func Proxy(t testing.TB, dsn string) (*faultproxy.Proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("dbtest:", err)
	}
	p, err := faultproxy.New(u.Host)
	if err != nil {
		t.Fatal("dbtest:", err)
	}
	t.Cleanup(p.Close)
	u.Host = p.Addr()
	return p, u.String()
}
