package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sojourn-go/sojourn/session"
)

// crowd is requests of one browser at the same time. The first that saves is
// held in the store until the others wait for it.
type crowd struct {
	*site
	t       *testing.T
	b       *browser
	held    chan struct{}
	waiting sync.WaitGroup
}

func newCrowd(t *testing.T, opts session.Options) *crowd {
	p := newSite(t, opts)
	b := p.browser()
	b.visit(setting(t, "n", 0))
	p.store.taken()
	return &crowd{site: p, t: t, b: b, held: make(chan struct{})}
}

// hold has a request save, and returns when the store has it.
func (c *crowd) hold(do page) {
	c.store.before("Save", func() { <-c.held })
	c.join(http.StatusOK, do)
}

// join adds a request, which waits until release. It must be answered by status.
func (c *crowd) join(status int, do page) {
	c.waiting.Go(func() {
		if res := c.serve(get(c.b.cookie), do); res.StatusCode != status {
			c.t.Errorf("the answer has status %d; want %d", res.StatusCode, status)
		}
	})
	synctest.Wait()
}

// release lets the store go on, and waits for the answers.
func (c *crowd) release() {
	close(c.held)
	c.waiting.Wait()
}

func (c *crowd) saves() (n int) {
	for _, call := range c.store.taken() {
		if call == "Save" {
			n++
		}
	}
	return n
}

func (c *crowd) wantBody(want string) {
	c.t.Helper()
	if got := body(c.t, c.site, keyOf(c.b)); got != want {
		c.t.Errorf("the values are %s; want %s", got, want)
	}
}

func counting(t testing.TB) page {
	return func(_ context.Context, s *session.Session) {
		if err := session.Update(s, "n", func(n int) int { return n + 1 }); err != nil {
			t.Error(err)
		}
	}
}

func TestRequestsOfOneSessionShareAWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.hold(counting(t))
		for range 63 {
			c.join(http.StatusOK, counting(t))
		}
		c.release()
		if n := c.saves(); n != 2 {
			t.Errorf("64 requests made %d writes; want 2", n)
		}
		c.wantBody(`{"n":64}`)
	})
}

func TestEachRequestSeesWhatItSharedAWriteWith(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.hold(setting(t, "a", 1))
		for i := range 3 {
			c.join(http.StatusOK, func(ctx context.Context, s *session.Session) {
				err := errors.Join(s.Set(fmt.Sprint("k", i), i), s.Save(ctx))
				keys := s.Keys()
				if err != nil || len(keys) != 5 {
					t.Errorf("it sees %v, %v; want its own and those of the three others", keys, err)
				}
				if err := session.Update(s, "n", func(n int) int { return n + 1 }); err != nil { // on the saved ones
					t.Error(err)
				}
			})
		}
		c.release()
		c.wantBody(`{"a":1,"k0":0,"k1":1,"k2":2,"n":3}`)
	})
}

func TestFailOnConflictHoldsWithinANode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.hold(counting(t))
		c.join(http.StatusConflict, func(_ context.Context, s *session.Session) {
			s.FailOnConflict()
			counting(t)(t.Context(), s)
		})
		c.join(http.StatusOK, counting(t))
		c.release()
		c.wantBody(`{"n":2}`)
	})
}

// Who fails on a conflict wins it where it came first.
func TestFailOnConflictWinsWhereItCameFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.hold(func(_ context.Context, s *session.Session) {
			s.FailOnConflict()
			counting(t)(t.Context(), s)
		})
		c.join(http.StatusOK, counting(t))
		c.release()
		c.wantBody(`{"n":2}`)
	})
}

func TestAnotherNodesWriteIsReadOnceForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		key := keyOf(c.b)
		c.hold(counting(t))
		for range 8 {
			c.join(http.StatusOK, counting(t))
		}
		c.store.taken()
		plant(t, c.site, key, `{"n":100}`)
		c.store.taken()
		c.release()
		// The one that was held is refused with the others still waiting.
		c.want("Get", "Save")
		c.wantBody(`{"n":109}`)
	})
}

func TestACallerThatGivesUpChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.hold(counting(t))
		for range 2 {
			c.join(http.StatusOK, func(ctx context.Context, s *session.Session) {
				counting(t)(ctx, s)
				ctx, cancel := context.WithCancel(ctx)
				cancel()
				if err := s.Save(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, session.ErrUnknown) {
					t.Errorf("Save = %v; want that nothing was saved", err)
				}
			})
		}
		c.join(http.StatusOK, counting(t))
		c.release()
		c.wantBody(`{"n":2}`)
	})
}

func TestACallerThatGivesUpItsWriteDoesNotKnow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.hold(counting(t))
		ctx, cancel := context.WithCancel(t.Context())
		saved := make(chan error, 1)
		c.join(http.StatusOK, func(_ context.Context, s *session.Session) {
			counting(t)(ctx, s)
			saved <- s.Save(ctx)
		})
		c.join(http.StatusOK, counting(t))
		second := make(chan struct{})
		c.store.before("Save", func() { <-second })
		close(c.held)
		synctest.Wait()
		cancel() // while both are being written
		if err := <-saved; !errors.Is(err, session.ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("Save = %v; want %v and %v", err, session.ErrUnknown, context.Canceled)
		}
		close(second)
		c.waiting.Wait()
		c.wantBody(`{"n":3}`)
	})
}

func TestTheLastCallerThatGivesUpEndsTheWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		refused := errors.New("the store has not written it")
		c.store.saving = func(ctx context.Context, _ session.Record) error {
			<-ctx.Done()
			return fmt.Errorf("%w: %w", ctx.Err(), refused)
		}
		ctx, cancel := context.WithCancel(t.Context())
		c.join(http.StatusOK, func(_ context.Context, s *session.Session) {
			counting(t)(ctx, s)
			if err := s.Save(ctx); !errors.Is(err, refused) || errors.Is(err, session.ErrUnknown) {
				t.Errorf("Save = %v; want what the store says", err)
			}
		})
		cancel()
		c.release()
	})
}

func TestAFunctionThatDoesNotReturnFailsItsOwnRequest(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){
		"panic":  func() { panic("the function of Update") },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, session.Options{})
				c.hold(counting(t))
				done := make(chan any, 1)
				go func() {
					defer func() { done <- recover() }()
					calls := 0
					c.serve(get(c.b.cookie), func(_ context.Context, s *session.Session) {
						_ = session.Update(s, "n", func(n int) int {
							if calls++; calls > 1 { // what the others have saved
								end()
							}
							return n + 1
						})
					})
				}()
				synctest.Wait()
				c.join(http.StatusOK, counting(t))
				c.release()
				if value := <-done; (value != nil) != (name == "panic") {
					t.Errorf("it ended by %v", value)
				}
				c.wantBody(`{"n":2}`)
			})
		})
	}
}

func TestAPanicOfTheStoreIsTheRequests(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, session.Options{})
	c.store.before("Save", func() { panic("the store") })
	defer func() {
		if value := recover(); value != "the store" {
			t.Errorf("the handler ended by %v", value)
		}
	}()
	c.serve(get(c.b.cookie), counting(t))
}

func TestWhatIsTooLargeFailsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.store.saving = func(_ context.Context, rec session.Record) error {
			if len(rec.Data) > 300 {
				return session.ErrTooLarge
			}
			return nil
		}
		c.hold(counting(t))
		c.join(http.StatusOK, counting(t))
		c.join(http.StatusInternalServerError, setting(t, "large", string(make([]byte, 400))))
		c.join(http.StatusOK, counting(t))
		c.release()
		c.wantBody(`{"n":3}`)
	})
}

func TestNobodySavesWhatHeDidAsAnotherUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.hold(counting(t))
		c.join(http.StatusOK, counting(t))
		other := &browser{site: newSiteOn(t, c.clock, c.store, session.Options{}), cookie: c.b.cookie}
		other.visit(loggingIn(t, "ann", session.Login{}))
		c.b.cookie = other.cookie
		c.release()
		c.wantBody(`{"n":0}`)
	})
}

// A login takes its turn among the saves. What comes after it was done by somebody
// else.
func TestALoginWaitsForTheSavesBeforeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.hold(counting(t))
		c.join(http.StatusOK, counting(t))
		before := c.b.cookie
		c.waiting.Go(func() { c.b.visit(loggingIn(t, "ann", session.Login{})) })
		synctest.Wait()
		c.waiting.Go(func() { c.serve(get(before), counting(t)) })
		synctest.Wait()
		c.store.taken()
		c.release()
		c.want("Save", "Renew", "Get")
		c.wantBody(`{"n":2}`)
	})
}

// A renewal that is due is made once, and loses nothing.
func TestARenewalTakesItsTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{Policy: session.Policy{IdleTimeout: -1, RenewAfter: hour, RenewGrace: minute}})
		c.hold(counting(t))
		c.clock.advance(hour)
		c.waiting.Go(func() { c.b.visit(counting(t)) })
		synctest.Wait()
		for range 8 {
			c.join(http.StatusOK, counting(t))
		}
		c.store.taken()
		c.release()
		if calls := c.store.taken(); calls[0] != "Renew" || slices.Contains(calls[1:], "Renew") {
			t.Errorf("the store was called for %v; want one renewal", calls)
		}
		c.wantBody(`{"n":10}`)
	})
}

// Another node saves a value of another type while a renewal is under way.
func TestARenewalThatCannotBeMergedLosesNoChangeSilently(t *testing.T) {
	t.Parallel()
	p := newSite(t, session.Options{Policy: session.Policy{IdleTimeout: -1, RenewAfter: hour, RenewGrace: minute}})
	b := p.browser()
	b.visit(setting(t, "n", 1))
	p.clock.advance(hour)
	p.store.before("Renew", func() { plant(t, p, keyOf(b), `{"n":"text"}`) })
	if res := b.visitFailing(counting(t)); res.StatusCode == http.StatusOK {
		t.Error("the request that lost its change was answered 200")
	}
	if got := body(t, p, keyOf(b)); got != `{"n":"text"}` {
		t.Errorf("the values are %s", got)
	}
}

// A grace period leads to a session that has another user by now.
func TestAMergeGivesNothingToAnotherUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.hold(counting(t))
		c.join(http.StatusOK, counting(t))
		key := keyOf(c.b)
		rec, err := c.store.Store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		id := session.NewID(rec.Deadline)
		rec.Key, rec.User = id.Key(), "ann"
		if _, err := c.store.Store.Renew(t.Context(), key, rec, hour); err != nil {
			t.Fatal(err)
		}
		c.release()
		if got := body(t, c.site, id.Key()); got != `{"n":0}` {
			t.Errorf("ann's values are %s; want those of before", got)
		}
	})
}

// They have read the same version, and one of them came first.
func TestFailOnConflictDoesNotShareAWriteWithWhatCameBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.hold(counting(t))
		plant(t, c.site, keyOf(c.b), `{"n":100}`)
		c.join(http.StatusConflict, func(ctx context.Context, s *session.Session) {
			s.FailOnConflict()
			counting(t)(ctx, s)
		})
		c.release()
		c.wantBody(`{"n":101}`)
	})
}

func TestALoginFailsOnAConflictThatItsNodeKnows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		c.hold(counting(t))
		c.join(http.StatusConflict, func(ctx context.Context, s *session.Session) {
			s.FailOnConflict()
			counting(t)(ctx, s)
			loggingIn(t, "ann", session.Login{})(ctx, s)
		})
		c.release()
		c.wantBody(`{"n":1}`)
	})
}

// saving is a page that counts and asks for a Save, which must fail by the end of
// ctx. unknown says whether the change may be saved all the same.
func (c *crowd) saving(ctx context.Context, unknown bool) page {
	return func(_ context.Context, s *session.Session) {
		counting(c.t)(ctx, s)
		if err := s.Save(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, session.ErrUnknown) != unknown {
			c.t.Errorf("Save = %v; want the end of its context, and that the outcome is unknown: %v", err, unknown)
		}
	}
}

func TestACallerThatGivesUpBeforeTheWriteHasChangedNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		slow := make(chan struct{})
		c.hold(counting(t))
		c.join(http.StatusOK, c.saving(ctx, false))
		calls := 0
		c.join(http.StatusOK, func(_ context.Context, s *session.Session) {
			if err := session.Update(s, "n", func(n int) int {
				if calls++; calls == 2 { // its turn, after the other's
					<-slow
				}
				return n + 1
			}); err != nil {
				t.Error(err)
			}
		})
		close(c.held)
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(slow)
		c.waiting.Wait()
		c.wantBody(`{"n":2}`)
	})
}

func TestACallerThatGivesUpAfterAConflictHasChangedNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		slow := make(chan struct{})
		c.hold(counting(t))
		c.join(http.StatusOK, c.saving(ctx, false))
		c.join(http.StatusOK, counting(t))
		c.store.before("Save", func() { // both are in it
			plant(t, c.site, keyOf(c.b), `{"n":100}`)
			c.store.before("Get", func() { <-slow })
		})
		close(c.held)
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(slow)
		c.waiting.Wait()
		c.wantBody(`{"n":101}`)
	})
}

// The others of its write have their answers already.
func TestTheLastCallerOfAWriteLearnsWhatCameOfIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, session.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		c.hold(counting(t))
		c.join(http.StatusOK, c.saving(ctx, false))
		c.join(http.StatusConflict, func(ctx context.Context, s *session.Session) {
			s.FailOnConflict()
			counting(t)(ctx, s)
		})
		c.store.before("Save", func() {
			c.store.saving = func(ctx context.Context, _ session.Record) error { <-ctx.Done(); return ctx.Err() }
		})
		close(c.held)
		synctest.Wait()
		cancel()
		c.waiting.Wait()
		c.wantBody(`{"n":1}`)
	})
}
