package leader_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/pglock"
)

func TestTheElectionSurvivesARestartOfTheServer(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]func(*dbtest.Server){"stop": (*dbtest.Server).Stop, "crash": (*dbtest.Server).Kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := dbtest.Start(t, dbtest.Config{})
			locker := pglock.New(config(t, server.DSN("postgres")), 1, "")
			terms, ends := make(chan *pgTerm), make(chan error, 100)
			var states [3]recorder
			for i := range states {
				opts := quick
				opts.OnChange = states[i].record
				contend(t, locker, opts, telling(terms, func(leading context.Context, _ *pgTerm) error {
					<-leading.Done()
					ends <- context.Cause(leading)
					return nil
				}))
			}
			receive(t, "the first leader", terms)
			down(server)
			if cause := receive(t, "the end of the term", ends); !errors.Is(cause, leader.ErrLost) {
				t.Errorf("leading ended with %v, want ErrLost", cause)
			}
			dbtest.Eventually(t, "everybody has noticed", func() bool {
				for i := range states {
					if s := states[i].last(); s.Connected || s.Failures < 2 {
						return false
					}
				}
				return true
			})
			server.Restart(t)
			receive(t, "a leader after the restart", terms)
			dbtest.Eventually(t, "everybody competes again", func() bool {
				leaders := 0
				for i := range states {
					s := states[i].last()
					if !s.Connected {
						return false
					}
					if s.Leading {
						leaders++
					}
				}
				return leaders == 1
			})
		})
	}
}

func TestAStandbyIsRefusedUntilItIsPromoted(t *testing.T) {
	t.Parallel()
	primary := dbtest.Start(t, dbtest.Config{})
	standby := dbtest.Standby(t, primary)
	var states recorder
	opts := quick
	opts.OnChange = states.record
	terms := make(chan *pgTerm, 100)
	contend(t, pglock.New(config(t, standby.DSN("postgres")), 1, ""), opts, telling(terms, lead))
	dbtest.Eventually(t, "two refusals", func() bool { return states.last().Failures >= 2 })
	if s := states.last(); s.Connected || len(terms) != 0 {
		t.Errorf("got %+v on a standby, want no connection", s)
	}
	primary.Kill()
	standby.Promote(t)
	receive(t, "a term after the promotion", terms)
}

func TestAServerThatBecomesReadOnlyHasNoLeader(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.Config{})
	dsn := server.DSN("postgres")
	db := dbtest.Conn(t, dsn)
	var states recorder
	opts := quick
	opts.OnChange = states.record
	contend(t, pglock.New(config(t, dsn), 1, ""), opts, lead)
	set := func(to string) {
		t.Helper()
		for _, stmt := range []string{"ALTER SYSTEM SET default_transaction_read_only = " + to, "SELECT pg_reload_conf()"} {
			if _, err := db.Exec(within(t), stmt); err != nil {
				t.Fatal(err)
			}
		}
	}
	dbtest.Eventually(t, "a leader", func() bool { return states.last().Leading })
	set("on")
	dbtest.Eventually(t, "no leader and refused connections", func() bool {
		s := states.last()
		return !s.Leading && !s.Connected && s.Failures >= 2
	})
	set("off")
	dbtest.Eventually(t, "a leader again", func() bool { return states.last().Leading })
}

func TestRunEndsWhileTheServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.Config{})
	server.Pause()
	started := make(chan struct{})
	c := config(t, server.DSN("postgres"))
	dial := c.DialFunc
	var once sync.Once
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		defer once.Do(func() { close(started) })
		return dial(ctx, network, addr)
	}
	e := contend(t, pglock.New(c, 1, ""), leader.Options{ConnectTimeout: time.Hour}, lead)
	receive(t, "an attempt to connect", started)
	e.stop()
	server.Resume()
}

// proxied starts a proxy in front of a database of its own and returns it with
// the direct DSN and a locker that goes through the proxy.
func proxied(t testing.TB) (proxy *faultproxy.Proxy, dsn string, locker leader.Locker[*pgx.Conn]) {
	t.Helper()
	dsn = dbtest.Postgres(t).Database(t)
	c := config(t, dsn)
	proxy, err := faultproxy.New(net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	host, port, err := net.SplitHostPort(proxy.Addr())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	c.Host, c.Port = host, uint16(n)
	return proxy, dsn, pglock.New(c, 1, "proxied")
}

// impatient gives up on an answer soon, but not on one that only takes its time.
func impatient(s *recorder) leader.Options {
	opts := quick
	opts.Timeout = 2 * time.Second
	opts.ConnectTimeout = 2 * time.Second
	opts.OnChange = s.record
	return opts
}

func TestASilentNetworkEndsTheTerm(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]bool{"while idle": false, "in a statement": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, _, locker := proxied(t)
			var states recorder
			terms, ends := make(chan *pgTerm), make(chan error, 100)
			e := contend(t, locker, impatient(&states), telling(terms, func(leading context.Context, term *pgTerm) error {
				var err error
				if busy && term.Number == 1 {
					err = term.Do(leading, time.Second, sql(`SELECT pg_sleep(600)`))
				}
				<-leading.Done()
				ends <- context.Cause(leading)
				return err
			}))
			receive(t, "the first term", terms)
			proxy.SetMode(faultproxy.ToServer, faultproxy.Drop())
			proxy.SetMode(faultproxy.ToClient, faultproxy.Drop())
			if cause := receive(t, "the end of the term", ends); !errors.Is(cause, leader.ErrLost) {
				t.Errorf("leading ended with %v, want ErrLost", cause)
			}
			dbtest.Eventually(t, "attempts to connect fail too", func() bool { return states.last().Failures >= 3 })
			if err := proxy.Heal(); err != nil {
				t.Fatal(err)
			}
			// Nobody tells the server: it ends the session that was silent for too long.
			receive(t, "the second term", terms)
			e.stop()
		})
	}
}

func TestALockWhoseAnswerIsLostIsGivenBack(t *testing.T) {
	t.Parallel()
	proxy, dsn, locker := proxied(t)
	db := dbtest.Conn(t, dsn)
	var states recorder
	terms := make(chan *pgTerm)
	granted := proxy.Trigger(faultproxy.ToServer, faultproxy.Contains("pg_try_advisory_lock"), faultproxy.HangAfterwards)
	contend(t, locker, impatient(&states), telling(terms, lead))
	receive(t, "the server's answer to the first attempt", granted)
	orphan, err := pglock.Holder(within(t), db, 1)
	if err != nil {
		t.Fatalf("Holder returned %v, want the session whose answer was lost", err)
	}
	dbtest.Eventually(t, "it is there again, on another session", func() bool { return states.last().Connected })
	s := states.last()
	if s.Failures == 0 || s.Err == nil {
		t.Errorf("got %+v, want the failure", s)
	}
	if !s.Leading { // else the server has ended the orphan already, which was silent for too long
		proxy.CutAll() // the server notices that the client has gone
	}
	receive(t, "a term", terms)
	dbtest.Eventually(t, "another session than the orphan leads", func() bool {
		info, err := pglock.Holder(within(t), db, 1)
		return err == nil && info.PID != orphan.PID
	})
}

func TestRunEndsWhileTheNetworkIsSilent(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]bool{"while idle": false, "in a statement": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, _, locker := proxied(t)
			var states recorder
			running := make(chan int64, 100)
			e := contend(t, locker, impatient(&states), func(leading context.Context, term *pgTerm) error {
				err := term.Do(leading, time.Hour, func(ctx context.Context, conn *pgx.Conn) error {
					running <- term.Number
					if !busy {
						return nil
					}
					return sql(`SELECT pg_sleep(600)`)(ctx, conn)
				})
				<-leading.Done()
				return err
			})
			receive(t, "the term", running)
			proxy.SetMode(faultproxy.ToServer, faultproxy.Drop())
			proxy.SetMode(faultproxy.ToClient, faultproxy.Drop())
			e.stop()
		})
	}
}
