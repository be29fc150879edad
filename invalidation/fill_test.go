package invalidation

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

var errRead = errors.New("the database is down")

// loads runs Load n times at once, the first one first, against a read that
// waits for release. It returns what they have returned.
type loads struct {
	mu    sync.Mutex
	reads int
	rows  []Row
	errs  []error
}

func (l *loads) start(ctx context.Context, c *Cache, read func(context.Context) (Row, error)) {
	go func() {
		defer func() {
			if r := recover(); r != nil {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.errs = append(l.errs, errors.New("it panicked"))
			}
		}()
		row, err := c.Load(ctx, sceneKey(1), func(ctx context.Context, _ session.Key, _ time.Time) (Row, error) {
			l.mu.Lock()
			l.reads++
			l.mu.Unlock()
			return read(ctx)
		})
		l.mu.Lock()
		defer l.mu.Unlock()
		if err != nil {
			l.errs = append(l.errs, err)
		} else {
			l.rows = append(l.rows, row)
		}
	}()
	synctest.Wait()
}

func TestReadersShareARead(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]error{"a row": nil, "an error": errRead} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, CacheOptions{})
				var l loads
				release := make(chan struct{})
				for range 5 {
					l.start(t.Context(), s.Cache, func(context.Context) (Row, error) {
						<-release
						if want != nil {
							return Row{}, want
						}
						return sceneRow(1, 3), nil
					})
				}
				close(release)
				synctest.Wait()
				if l.reads != 1 {
					t.Errorf("%d reads, want 1", l.reads)
				}
				if want != nil {
					if len(l.errs) != 5 || !errors.Is(errors.Join(l.errs...), errRead) {
						t.Errorf("got %v, want the error 5 times", l.errs)
					}
					s.wantVersion(1, 0)
					return
				}
				if len(l.rows) != 5 || l.rows[4].Record.Version != 3 {
					t.Errorf("got %v and %v, want the row 5 times", l.rows, l.errs)
				}
				s.wantVersion(1, 3)
			})
		})
	}
}

func TestAReaderWhoGivesUpLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, CacheOptions{})
		var l loads
		first, giveUp := context.WithCancel(t.Context())
		second, giveUpToo := context.WithCancel(t.Context())
		release := make(chan struct{})
		read := func(ctx context.Context) (Row, error) {
			select {
			case <-release:
				return sceneRow(1, 3), nil
			case <-ctx.Done():
				return Row{}, context.Cause(ctx)
			}
		}
		l.start(first, s.Cache, read)
		l.start(second, s.Cache, read)
		l.start(t.Context(), s.Cache, read)
		giveUpToo() // who only waits
		synctest.Wait()
		if len(l.errs) != 1 || !errors.Is(l.errs[0], context.Canceled) {
			t.Errorf("who waits and gives up gets %v", l.errs)
		}
		giveUp() // who reads
		synctest.Wait()
		if len(l.errs) != 2 || l.reads != 2 {
			t.Errorf("%d errors after %d reads, want 2 after 2: another has to read", len(l.errs), l.reads)
		}
		close(release)
		synctest.Wait()
		if len(l.rows) != 1 || len(l.errs) != 2 {
			t.Errorf("got %v and %v, want one row", l.rows, l.errs)
		}
	})
}

func TestAReadThatPanicsLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, CacheOptions{})
		var l loads
		release := make(chan struct{})
		l.start(t.Context(), s.Cache, func(context.Context) (Row, error) {
			<-release
			panic("a mistake")
		})
		l.start(t.Context(), s.Cache, func(context.Context) (Row, error) { return sceneRow(1, 3), nil })
		close(release)
		synctest.Wait()
		if len(l.errs) != 1 || len(l.rows) != 1 || l.reads != 2 {
			t.Errorf("got %v and %v after %d reads, want a panic, a row and 2 reads", l.errs, l.rows, l.reads)
		}
	})
}

func TestWhoComesAfterAWriteDoesNotJoinAReadOfBefore(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(s *scene){
		"an own write":                    func(s *scene) { s.Begin(sceneKey(1)) },
		"another node's write":            func(s *scene) { s.Receive(s.other().Keys(sceneKey(1))[0]) },
		"an own end of a user":            func(s *scene) { s.BeginUser("ada") },
		"another node's end of a user":    func(s *scene) { s.Receive(s.other().User("ada")) },
		"an own end of all":               func(s *scene) { s.BeginAll() },
		"another node's end of all":       func(s *scene) { s.Receive(s.other().All()) },
		"a gap":                           func(s *scene) { s.Gap(CauseDisconnect, errScene) },
		"an unknown payload":              func(s *scene) { s.Receive("9") },
		"nothing for longer than a lease": func(s *scene) { s.pass(modelLease + 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, CacheOptions{})
			old, _ := s.Join(sceneKey(1))
			if f, mine := s.Join(sceneKey(1)); mine || f != old {
				t.Fatal("a read under way is not joined")
			}
			write(s)
			young, mine := s.Join(sceneKey(1))
			if !mine {
				t.Fatal("a read of before is joined")
			}
			s.Finish(old, sceneRow(1, 1), nil, false)
			if f, mine := s.Join(sceneKey(1)); mine || f != young {
				t.Error("the end of the old read has taken the new one away")
			}
			s.Finish(young, sceneRow(1, 2), nil, false)
			if f, mine := s.Join(sceneKey(1)); !mine {
				t.Errorf("a read that is over is joined: %+v", f.row)
			}
		})
	}
}

func TestATicketTellsTheServer(t *testing.T) {
	t.Parallel()
	s := newScene(t, CacheOptions{})
	if got := s.Reserve(sceneKey(1)).Server(); !got.Equal(sceneServer) {
		t.Errorf("got %v, want %v", got, sceneServer)
	}
	s.Gap(CauseDisconnect, errScene)
	if got := s.Reserve(sceneKey(1)).Server(); !got.IsZero() {
		t.Errorf("got %v while nobody listens", got)
	}
}
