package handover_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sojourn-go/sojourn/internal/handover"
	"github.com/sojourn-go/sojourn/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type op struct {
	handover.Op

	key   string
	size  int
	owned int // times
}

var (
	errReason = errors.New("the reason")
	errResult = errors.New("the result")
)

// rules are those of a queue whose batches have three items and ten bytes.
func rules() handover.Rules[string, *op] {
	return handover.Rules[string, *op]{
		Items: 3, Bytes: 10,
		Size:     func(o *op) int { return o.size },
		Key:      func(o *op) string { return o.key },
		Patience: time.Minute,
		What:     "save",
	}
}

func newQueue() *handover.Queue[string, *op] { return handover.New(rules()) }

// inBubble runs a test in a time of its own, in which goroutines can be waited for.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

// start hands ops over, by callers of their own. Those that have to wait are left
// waiting.
func start(t *testing.T, q *handover.Queue[string, *op], ops ...*op) {
	t.Helper()
	for _, o := range ops {
		go func() { _ = q.Start(t.Context(), o) }()
		synctest.Wait()
	}
}

// calls is start, but each caller waits for the outcome until ctx ends.
func calls(ctx context.Context, q *handover.Queue[string, *op], ops ...*op) []<-chan error {
	var told []<-chan error
	for _, o := range ops {
		result := make(chan error, 1)
		told = append(told, result)
		go func() { result <- q.Do(ctx, o) }()
		synctest.Wait()
	}
	return told
}

// takes fails the test unless the next batch is want.
func takes(t *testing.T, q *handover.Queue[string, *op], want ...*op) {
	t.Helper()
	synctest.Wait() // until those have come whose turn it is
	if got := q.Take(); !slices.Equal(got, want) {
		t.Fatalf("took %d writes, which are not the %d that are next", len(got), len(want))
	}
}

func ended() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errReason)
	return ctx
}

func TestACallerThatGivesUpBeforeItsWriteWasTakenIsSure(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		var heard []error
		o := &op{key: "a", Op: handover.Op{After: func(err error) { heard = append(heard, err) }}}
		err := q.Do(ended(), o)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, errReason) || errors.Is(err, session.ErrUnknown) {
			t.Errorf("Do: %v", err)
		}
		takes(t, q)
		q.Finish(o, nil) // too late
		if again := q.Await(t.Context(), o); !errors.Is(again, errReason) {
			t.Errorf("Await: %v", again)
		}
		if len(heard) != 1 || !errors.Is(heard[0], errReason) {
			t.Errorf("After heard %v", heard)
		}
	})
}

func TestACallerThatGivesUpAfterItsWriteWasTakenDoesNotKnow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		var heard []error
		o := &op{key: "a", Op: handover.Op{After: func(err error) { heard = append(heard, err) }}}
		start(t, q, o)
		takes(t, q, o)
		err := q.Await(ended(), o)
		if !errors.Is(err, session.ErrUnknown) || !errors.Is(err, context.Canceled) || !errors.Is(err, errReason) {
			t.Errorf("Await: %v", err)
		}
		if len(heard) > 0 {
			t.Errorf("After heard %v before the outcome was known", heard)
		}
		q.Finish(o, errResult)
		if len(heard) != 1 || heard[0] != errResult {
			t.Errorf("After heard %v", heard)
		}
	})
}

func TestACallerThatGivesUpAfterTheOutcomeIsKnownIsToldIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		for range 50 { // Await finds either first
			o := &op{key: "a"}
			start(t, q, o)
			takes(t, q, o)
			q.Release(o)
			q.Finish(o, errResult)
			if err := q.Await(ended(), o); err != errResult {
				t.Fatalf("Await: %v", err)
			}
		}
	})
}

func TestBatchesAreInTheOrderOfArrivalAndNotTooLarge(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		a, b, c, d := &op{key: "a"}, &op{key: "b"}, &op{key: "c"}, &op{key: "d"}
		start(t, q, a, b)
		start(t, q, c, d)
		takes(t, q, a, b, c)
		takes(t, q, d)
		large, fits, over, late := &op{key: "e", size: 11}, &op{key: "f", size: 4}, &op{key: "g", size: 7}, &op{key: "h", size: 3}
		start(t, q, large, fits, over, late)
		takes(t, q, large)
		takes(t, q, fits)
		takes(t, q, over, late)
		i, j, k := &op{key: "i", size: 4}, &op{key: "j", size: 4}, &op{key: "k", size: 4}
		start(t, q, i, j, k)
		takes(t, q, i, j)
		takes(t, q, k)
		takes(t, q)
	})
}

func TestOneKeyIsNotTakenAgainBeforeItsRelease(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		first, other, second, third := &op{key: "a"}, &op{key: "b"}, &op{key: "a"}, &op{key: "a"}
		start(t, q, first, second, other, third)
		takes(t, q, first, other)
		q.Finish(first, nil)
		q.Release(other)
		takes(t, q)
		if waits, busy := q.Len(); waits != 2 || busy != 1 {
			t.Errorf("%d wait and %d are busy, want 2 and 1", waits, busy)
		}
		q.Release(first)
		takes(t, q, second)
		q.Release(second)
		takes(t, q, third)
	})
}

func TestWhatHasNoRoomIsNotOvertakenByItsKey(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		first, over, small := &op{key: "a", size: 6}, &op{key: "b", size: 6}, &op{key: "b", size: 1}
		start(t, q, first, over, small)
		takes(t, q, first)
		takes(t, q, over)
		q.Release(over)
		takes(t, q, small)
	})
}

func TestWithoutKeysABatchTakesAll(t *testing.T) {
	t.Parallel()
	r := rules()
	r.Key = nil
	q := handover.New(r)
	a, b := &op{key: "a"}, &op{key: "a"}
	if err := q.Start(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
	if got := q.Take(); !slices.Equal(got, []*op{a, b}) {
		t.Errorf("took %d writes, want both", len(got))
	}
	q.Close()
	if q.Wait() {
		t.Error("it waits for what was taken")
	}
}

func TestOnlyWhatWaitsIsFinishedTogether(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		taken, given, behind, other, waits := &op{key: "a"}, &op{key: "a"}, &op{key: "a"}, &op{key: "b"}, &op{key: "c"}
		start(t, q, taken)
		takes(t, q, taken)
		start(t, q, given, behind, other, waits)
		_ = q.Await(ended(), given)
		q.FinishKey("a", errResult)
		q.FinishKey("c", errResult)
		q.FinishKey("d", errResult)
		q.Finish(taken, nil)
		for o, want := range map[*op]error{taken: nil, behind: errResult, waits: errResult} {
			if err := q.Await(t.Context(), o); err != want {
				t.Errorf("told %v, want %v", err, want)
			}
		}
		if err := q.Await(t.Context(), given); !errors.Is(err, errReason) {
			t.Errorf("who had given up: %v", err)
		}
		takes(t, q, other)
		more, next := &op{key: "c"}, &op{key: "c"}
		start(t, q, more, next)
		q.FinishWaiting(errResult)
		if err := q.Await(t.Context(), more); err != errResult {
			t.Errorf("told %v, want %v", err, errResult)
		}
		takes(t, q, next)
		q.Release(taken)
		if waits, busy := q.Len(); waits != 0 || busy != 2 {
			t.Errorf("%d wait and %d are busy, want 0 and 2", waits, busy)
		}
	})
}

func TestAClosedQueueRefusesAndIsEmptied(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		first, second, given := &op{key: "a"}, &op{key: "a"}, &op{key: "a"}
		start(t, q, first, second, given)
		takes(t, q, first)
		q.Close()
		var heard []error
		late := &op{key: "b", Op: handover.Op{After: func(err error) { heard = append(heard, err) }}}
		if err := q.Start(t.Context(), late); err != session.ErrClosed {
			t.Errorf("Start: %v", err)
		}
		if len(heard) != 1 || heard[0] != session.ErrClosed {
			t.Errorf("After heard %v", heard)
		}
		if waits, _ := q.Len(); waits != 2 {
			t.Errorf("%d wait, want 2", waits)
		}
		if !q.Wait() {
			t.Error("it does not wait for the write that waits")
		}
		q.Release(first)
		takes(t, q, second)
		if err := q.Await(ended(), given); !errors.Is(err, errReason) {
			t.Errorf("Await: %v", err)
		}
		if !q.Wait() {
			t.Error("it does not wait for the busy key")
		}
		q.Release(second)
		if q.Wait() {
			t.Error("it waits for nothing")
		}
	})
}

func TestWhatWasHandedOverBeforeTheCloseIsTaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		o := &op{key: "a"}
		start(t, q, o)
		q.Close()
		if !q.Wait() {
			t.Error("the write is forgotten")
		}
		takes(t, q, o)
	})
}

func TestTheWriterIsWokenByWhatMayLetItTakeOrEnd(t *testing.T) {
	t.Parallel()
	for name, wake := range map[string]func(*handover.Queue[string, *op], *op, *op){
		"a write":   func(q *handover.Queue[string, *op], _, _ *op) { _ = q.Start(context.Background(), &op{key: "b"}) },
		"a release": func(q *handover.Queue[string, *op], taken, _ *op) { q.Release(taken) },
		"giving up": func(q *handover.Queue[string, *op], taken, waits *op) {
			q.Close()
			q.Wait()
			_ = q.Await(ended(), waits)
		},
		"the end": func(q *handover.Queue[string, *op], _, _ *op) { q.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := newQueue()
				taken, waits := &op{key: "a"}, &op{key: "a"}
				start(t, q, taken, waits)
				takes(t, q, taken)
				q.Wait() // for the start
				woken := make(chan bool, 1)
				go func() { woken <- q.Wait() }()
				synctest.Wait()
				if len(woken) > 0 {
					t.Error("it did not wait")
				}
				wake(q, taken, waits)
				if !<-woken {
					t.Error("it was told to end")
				}
			})
		})
	}
}

// Callers come and give up while others are written.
func TestWhatIsSaidToBeUnwrittenIsNeverTaken(t *testing.T) {
	t.Parallel()
	hasty := rules()
	hasty.Items, hasty.Bytes, hasty.Patience = 1, 1, time.Millisecond // with room for 16
	for name, r := range map[string]handover.Rules[string, *op]{"patient": rules(), "hasty": hasty} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nothingUnwrittenIsTaken(t, handover.New(r))
		})
	}
}

func nothingUnwrittenIsTaken(t *testing.T, q *handover.Queue[string, *op]) {
	const callers, each = 40, 100
	written := map[*op]bool{}
	var writer, all sync.WaitGroup
	writer.Go(func() {
		for {
			batch := q.Take()
			if len(batch) == 0 && !q.Wait() {
				return
			}
			for _, o := range batch {
				written[o] = true
				q.Finish(o, nil)
			}
			q.Release(batch...)
		}
	})
	results := make([]map[*op]error, callers)
	for i := range results {
		results[i] = map[*op]error{}
		all.Go(func() {
			for n := range each {
				ctx, cancel := context.WithCancel(context.Background())
				o := &op{key: string(rune('a' + (n+i)%30)), size: n % 3}
				if n%3 == 0 {
					go cancel()
				}
				results[i][o] = q.Do(ctx, o)
				cancel()
			}
		})
	}
	all.Wait()
	q.Close()
	writer.Wait()
	if st := q.Stats(); st.Writes != 0 || st.Bytes != 0 || st.Waiting != 0 {
		t.Errorf("the queue holds %+v", st)
	}
	for _, of := range results {
		for o, err := range of {
			sure := err == nil || !errors.Is(err, session.ErrUnknown)
			if sure && written[o] != (err == nil) {
				t.Fatalf("told %v, written %t", err, written[o])
			}
		}
	}
}
