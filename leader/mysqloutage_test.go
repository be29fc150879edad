package leader_test

import (
	"context"
	dbsql "database/sql"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/mysqllock"
)

func myCode(err error) uint16 {
	var answer *mysql.MySQLError
	if errors.As(err, &answer) {
		return answer.Number
	}
	return 0
}

func TestTheElectionSurvivesARestartOfTheMySQL(t *testing.T) {
	t.Parallel()
	dbtest.StartEachMySQL(t, dbtest.MySQLConfig{}, func(t *testing.T, s *dbtest.MySQLServer) {
		locker := mysqllock.New(myConfig(t, s.Database(t)), 1, "")
		terms, ends := make(chan *myTerm), make(chan error, 100)
		var states [3]recorder
		for i := range states {
			opts := quick
			opts.MaxBackoff = 100 * time.Millisecond
			opts.OnChange = states[i].record
			contend(t, locker, opts, telling(terms, func(leading context.Context, _ *myTerm) error {
				<-leading.Done()
				ends <- context.Cause(leading)
				return nil
			}))
		}
		for _, down := range []func(){s.Stop, s.Kill} {
			receive(t, "a leader", terms)
			dbtest.Eventually(t, "everybody competes", func() bool {
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
			down()
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
			s.Restart(t)
		}
		receive(t, "a leader after the restart", terms)
	})
}

func TestAMySQLThatBecomesReadOnlyHasNoLeader(t *testing.T) {
	t.Parallel()
	dbtest.StartEachMySQL(t, dbtest.MySQLConfig{}, func(t *testing.T, s *dbtest.MySQLServer) {
		dsn := s.Database(t)
		db := dbtest.DB(t, dsn, nil)
		var states recorder
		opts := quick
		opts.MaxBackoff = 100 * time.Millisecond
		opts.OnChange = states.record
		contend(t, mysqllock.New(newUser(t, s, dsn), 1, ""), opts, lead)
		set := func(to string) {
			t.Helper()
			if _, err := db.ExecContext(within(t), "SET GLOBAL read_only = "+to); err != nil {
				t.Fatal(err)
			}
		}
		follower := open(t, mysqllock.New(newUser(t, s, dsn), 2, ""))
		dbtest.Eventually(t, "a leader", func() bool { return states.last().Leading })
		set("ON")
		if ok, err := follower.TryLock(within(t)); ok || err == nil {
			t.Errorf("TryLock of a session from before returned %v, %v; want a refusal", ok, err)
		}
		if _, err := mysqllock.Holder(within(t), db, 2); !errors.Is(err, leader.ErrNoLeader) {
			t.Errorf("it has the lock: %v", err)
		}
		dbtest.Eventually(t, "no leader and refused connections", func() bool {
			s := states.last()
			return !s.Leading && !s.Connected && s.Failures >= 2
		})
		if _, err := mysqllock.Holder(within(t), db, 1); !errors.Is(err, leader.ErrNoLeader) {
			t.Errorf("somebody has the lock: %v", err)
		}
		set("OFF")
		dbtest.Eventually(t, "a leader again", func() bool { return states.last().Leading })
	})
}

func TestRunEndsWhileTheMySQLDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := dbtest.StartMariaDB(t, dbtest.MySQLConfig{})
	c := myConfig(t, s.DSN(""))
	started := make(chan struct{})
	var once sync.Once
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		defer once.Do(func() { close(started) })
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	s.Pause()
	defer s.Resume()
	e := contend(t, mysqllock.New(c, 1, ""), leader.Options{ConnectTimeout: time.Hour}, lead)
	receive(t, "an attempt to connect", started)
	e.stop()
}

// myProxied starts a proxy in front of a database of its own and returns it with
// a direct pool and a locker that goes through the proxy.
func myProxied(t testing.TB, s *dbtest.MySQLServer) (proxy *faultproxy.Proxy, db *dbsql.DB, locker leader.Locker[*dbsql.Conn]) {
	t.Helper()
	dsn := s.Database(t)
	proxy, through := dbtest.MySQLProxy(t, dsn)
	return proxy, dbtest.DB(t, dsn, nil), mysqllock.New(myConfig(t, through), myKey(t), "")
}

func TestASilentNetworkToMySQLEndsTheTerm(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		for name, busy := range map[string]bool{"while idle": false, "in a statement": true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				proxy, db, locker := myProxied(t, s)
				var states recorder
				terms, ends := make(chan *myTerm), make(chan error, 100)
				e := contend(t, locker, impatient(&states), telling(terms, func(leading context.Context, term *myTerm) error {
					var err error
					if busy && term.Number == 1 {
						err = term.Do(leading, time.Second, mySQL(`SELECT sleep(600)`))
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
				// The server has heard nothing of it, so nobody else can lead yet.
				if _, err := mysqllock.Holder(within(t), db, myKey(t)); err != nil {
					t.Errorf("the holder: %v, want the session of the lost term", err)
				}
				if err := proxy.Heal(); err != nil {
					t.Fatal(err)
				}
				dbtest.Eventually(t, "it follows", func() bool { return states.last().Connected })
				proxy.CutAll() // the server notices, if it is not in a statement
				receive(t, "the second term", terms)
				e.stop()
			})
		}
	})
}

func TestALockOfMySQLWhoseAnswerIsLostIsGivenBack(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		proxy, _, locker := myProxied(t, s)
		var states recorder
		terms := make(chan *myTerm)
		granted := proxy.Trigger(faultproxy.ToServer, faultproxy.Contains("get_lock"), faultproxy.HangAfterwards)
		opts := impatient(&states)
		opts.Timeout, opts.ConnectTimeout = time.Second, patience // enough to end the other session
		contend(t, locker, opts, telling(terms, lead))
		receive(t, "the server's answer to the first attempt", granted)
		// The hung connection stays open at the server: it is ended by another.
		receive(t, "a term", terms)
		if s := states.last(); s.Failures == 0 || s.Err == nil {
			t.Errorf("got %+v, want the failure", s)
		}
	})
}

func TestRunEndsWhileTheNetworkToMySQLIsSilent(t *testing.T) {
	t.Parallel()
	dbtest.EachMySQL(t, func(t *testing.T, s *dbtest.MySQLServer) {
		for name, busy := range map[string]bool{"while idle": false, "in a statement": true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				proxy, _, locker := myProxied(t, s)
				var states recorder
				running := make(chan int64, 100)
				e := contend(t, locker, impatient(&states), func(leading context.Context, term *myTerm) error {
					err := term.Do(leading, time.Hour, func(ctx context.Context, conn *dbsql.Conn) error {
						running <- term.Number
						if !busy {
							return nil
						}
						return mySQL(`SELECT sleep(600)`)(ctx, conn)
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
	})
}
