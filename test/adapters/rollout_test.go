package adapters

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alexedwards/scs/pgxstore"
	"github.com/alexedwards/scs/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/adapters/moving"
	"github.com/sojourn-go/sojourn/adapters/scsstore"
	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/pgstore"
)

// program is what runs on a node: the old program, or a phase of the new one.
type program string

const oldProgram program = "old"

func phase(p moving.Phase) program { return program(p.String()) }

func (p program) phase() moving.Phase {
	return map[program]moving.Phase{phase(moving.Move): moving.Move, phase(moving.Return): moving.Return}[p]
}

// service is three nodes behind a balancer that goes round.
type service struct {
	testing.TB
	dsn    string
	oldDSN string // of the table of scs's own store
	nodes  [3]atomic.Pointer[running]
	next   atomic.Int64
	rounds atomic.Int64
	site
}

// running is a program on a node.
type running struct {
	handler http.Handler
	use     sync.RWMutex // for writing, once it is stopped
	stop    func()
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for {
		n := s.nodes[s.next.Add(1)%int64(len(s.nodes))].Load()
		if n != nil && n.use.TryRLock() { // else it is being replaced
			defer n.use.RUnlock()
			n.handler.ServeHTTP(w, r)
			return
		}
	}
}

// run replaces what runs on a node, as a deployment does: requests under way end first.
func (s *service) run(node int, p program) {
	s.Helper()
	if was := s.nodes[node].Swap(nil); was != nil {
		was.end()
	}
	s.nodes[node].Store(s.start(p))
}

// stop stops all nodes.
func (s *service) stop() {
	for i := range s.nodes {
		s.nodes[i].Swap(nil).end()
	}
}

// end waits for the requests under way.
func (n *running) end() {
	n.use.Lock()
	n.stop()
}

// start begins a program, with connections of its own.
func (s *service) start(p program) *running {
	s.Helper()
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, s.oldDSN)
	if err != nil {
		s.Fatal(err)
	}
	n, store := &running{stop: pool.Close}, scs.Store(pgxstore.NewWithCleanupInterval(pool, 0))
	if p != oldProgram {
		own, err := pgxpool.ParseConfig(s.dsn)
		if err != nil {
			s.Fatal(err)
		}
		pgstore.ConfigurePool(own)
		ours, err := pgxpool.NewWithConfig(ctx, own)
		if err != nil {
			s.Fatal(err)
		}
		kept, err := pgstore.New(ctx, ours, pgstore.Options{PruneInterval: -1, Logger: zap.NewNop(), WriteTimeout: time.Minute, ReadTimeout: time.Minute})
		if err != nil {
			s.Fatal(err)
		}
		n.stop = func() {
			if err := kept.Close(ctx); err != nil {
				s.Errorf("Close: %v", err)
			}
			ours.Close()
			pool.Close()
		}
		if store, err = scsstore.New(kept, scsstore.Options{Old: store, Phase: p.phase()}); err != nil {
			s.Fatal(err)
		}
	}
	n.handler = newSCSHandler(store, withIdleTimeout).handler
	return n
}

// browser uses the service until the test has seen enough.
func (s *service) browser(user string, ended <-chan struct{}, loggedOut *sync.Map) {
	var cookie *http.Cookie
	for n := 0; ; n++ {
		select {
		case <-ended:
			return
		default:
		}
		if n%5 == 0 {
			if cookie != nil {
				s.get("/logout", cookie)
				loggedOut.Store(user, cookie)
			}
			if cookie = s.get("/login?user="+user, nil).cookie; cookie == nil {
				s.Errorf("%s cannot log in", user)
				return
			}
		}
		for path, want := range map[string]string{"/who": user, "/put?key=k": ""} {
			if got := s.get(path, cookie); got.body != want || got.status != http.StatusOK {
				s.Errorf("%s of %s: %q, status %d; want %q", path, user, got.body, got.status, want)
				return
			}
		}
		s.rounds.Add(1)
	}
}

// Three nodes with scs and its own store are replaced one by one, and back again, while
// users log in, work and log out.
func TestARolloutLogsNobodyOut(t *testing.T) {
	t.Parallel()
	s := &service{TB: t, dsn: migratedPostgres(t), oldDSN: dbtest.Postgres(t).Database(t)}
	if _, err := dbtest.Pool(t, s.oldDSN, nil).Exec(t.Context(), fmt.Sprintf(scsTable, "BYTEA", "TIMESTAMPTZ")); err != nil {
		t.Fatal(err)
	}
	at := [3]program{oldProgram, oldProgram, oldProgram}
	for i, p := range at {
		s.run(i, p)
	}
	defer s.stop()
	balancer := httptest.NewServer(s)
	defer balancer.Close()
	s.site = siteAt(t, balancer.URL, balancer.Client())

	away, now := s.get("/login?user=away", nil).cookie, s.get("/login?user=now", nil).cookie
	var browsers sync.WaitGroup
	var loggedOut sync.Map // the last cookie of each user
	ended := make(chan struct{})
	for i := range 6 {
		browsers.Go(func() { s.browser(fmt.Sprint("user", i), ended, &loggedOut) })
	}
	defer browsers.Wait()
	defer close(ended)

	beside, move, back := phase(moving.Beside), phase(moving.Move), phase(moving.Return)
	for _, step := range [][3]program{
		{beside, oldProgram, oldProgram}, {beside, beside, oldProgram},
		{oldProgram, beside, oldProgram}, // one is rolled back
		{beside, beside, oldProgram}, {beside, beside, beside},
		{move, beside, beside}, {move, move, beside},
		{beside, move, beside}, // and once more
		{move, move, beside}, {move, move, move},
		{beside, move, move}, {beside, beside, move}, {beside, beside, beside}, // all the way back
		{back, beside, beside}, {back, back, beside}, {back, back, back},
		{oldProgram, back, back}, {oldProgram, oldProgram, back}, {oldProgram, oldProgram, oldProgram},
	} {
		for i, p := range step {
			if p != at[i] {
				s.run(i, p)
			}
		}
		at = step
		enough := s.rounds.Load() + 30
		dbtest.Eventually(t, fmt.Sprint("browsers have used ", step), func() bool { return s.rounds.Load() > enough || t.Failed() })
		s.says("/who", now, "now") // in every phase, so that the way back finds him
		loggedOut.Range(func(user, cookie any) bool {
			dbtest.Eventually(t, fmt.Sprint("a logout of ", user, " counts with ", step), func() bool {
				return t.Failed() || s.get("/who", cookie.(*http.Cookie)).body == ""
			})
			return !t.Failed()
		})
		if t.Failed() {
			t.Fatalf("with %v", step)
		}
	}
	s.says("/who", away, "away") // who was away is where he was
}
