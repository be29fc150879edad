package handover_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/sojourn-go/sojourn/internal/handover"
	"github.com/sojourn-go/sojourn/session"
)

// What a queue of rules() has room for.
const (
	mostItems = 3 * handover.Batches
	mostBytes = 10 * handover.Batches
)

// fill hands over writes of so many bytes in all, with keys of their own.
func fill(t *testing.T, q *handover.Queue[string, *op], items, bytes int) (all []*op) {
	t.Helper()
	for i := range items {
		o := &op{key: fmt.Sprint("filling ", i)}
		if i == 0 {
			o.size = bytes
		}
		all = append(all, o)
	}
	if err := q.Start(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	return all
}

func holds(t *testing.T, q *handover.Queue[string, *op], writes int, bytes int64, waiting int) {
	t.Helper()
	if st := q.Stats(); st.Writes != writes || st.Bytes != bytes || st.Waiting != waiting {
		t.Errorf("the queue holds %d writes of %d bytes and %d wait, want %d, %d and %d", st.Writes, st.Bytes, st.Waiting, writes, bytes, waiting)
	}
}

func TestAFullQueueLetsOthersInInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for _, bytes := range []int{0, mostBytes} {
			q, items := newQueue(), mostItems
			if bytes > 0 {
				items = 1
			}
			before := fill(t, q, items, bytes)
			large, small, other := &op{key: "large", size: mostBytes - 1}, &op{key: "small", size: 2}, &op{key: "other"}
			told := calls(t.Context(), q, large, small, other)
			holds(t, q, items, int64(bytes), 3)
			for _, o := range before { // those under way have their room until they are finished
				if o.size > 0 || bytes == 0 {
					q.Take()
				}
			}
			holds(t, q, items, int64(bytes), 3)
			for _, o := range before {
				q.Finish(o, nil)
				q.Release(o)
			}
			synctest.Wait()
			holds(t, q, 1, mostBytes-1, 2) // the small one does not overtake
			takes(t, q, large)
			q.Finish(large, nil)
			holds(t, q, 2, 2, 0)
			q.Finish(small, nil)
			q.Finish(other, nil)
			for _, result := range told {
				if err := <-result; err != nil {
					t.Error(err)
				}
			}
			holds(t, q, 0, 0, 0)
		}
	})
}

func TestWhatIsLargerThanTheQueueGoesInAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		first, huge, last := &op{key: "a", size: 1}, &op{key: "b", size: 10 * mostBytes}, &op{key: "c", size: 1}
		start(t, q, first, huge, last)
		holds(t, q, 1, 1, 2)
		takes(t, q, first)
		q.Finish(first, nil)
		takes(t, q, huge)
		takes(t, q)
		q.Finish(huge, nil)
		takes(t, q, last)
	})
}

// One session that is written a thousand times does not fill the queue.
func TestWritesToOneKeyTakeRoomForOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		first := &op{key: "hot", size: 1}
		start(t, q, first)
		takes(t, q, first)
		for range 1000 {
			start(t, q, &op{key: "hot", size: 1})
		}
		holds(t, q, 1, 1, 1000)
		other := &op{key: "other"}
		start(t, q, other)
		takes(t, q, other)
		q.Finish(first, nil)
		q.Release(first)
		synctest.Wait()
		holds(t, q, 2, 1, 999)
	})
}

func TestWhatIsUrgentHasRoomOfItsOwnAndGoesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := rules()
		r.Urgent = func(o *op) bool { return strings.HasPrefix(o.key, "urgent") }
		q := handover.New(r)
		before := fill(t, q, mostItems, mostBytes)
		start(t, q, &op{key: "late"})
		urgent := &op{key: "urgent", size: 1}
		start(t, q, urgent)
		holds(t, q, mostItems+1, mostBytes+1, 1)
		takes(t, q, urgent) // there is no room beside it for the first
		takes(t, q, before[0])
	})
}

// states brings a write to each state in which its caller can give up.
var states = map[string]struct {
	reach   func(t *testing.T, q *handover.Queue[string, *op]) (wantWrites int)
	unknown bool
	text    string
}{
	"behind another one": {reach: func(t *testing.T, q *handover.Queue[string, *op]) int {
		start(t, q, &op{key: "a"})
		return 1
	}, text: "another write of the session is under way, this save was not done"},
	"outside": {reach: func(t *testing.T, q *handover.Queue[string, *op]) int {
		return len(fill(t, q, mostItems, 0))
	}, text: "this save was not done (48 of at most 48 writes, 0 of at most 160 bytes)"},
	"waiting": {reach: func(*testing.T, *handover.Queue[string, *op]) int { return 0 }},
	"taken":   {reach: func(*testing.T, *handover.Queue[string, *op]) int { return 0 }, unknown: true},
}

// beginAt has a caller wait for a write of five bytes in one of the states.
func beginAt(ctx context.Context, t *testing.T, q *handover.Queue[string, *op], state string) (o *op, told <-chan error, others int) {
	t.Helper()
	others = states[state].reach(t, q)
	o = &op{key: "a", size: 5}
	told = calls(ctx, q, o)[0]
	if state == "taken" {
		takes(t, q, o)
	}
	return o, told, others
}

func TestWhoGivesUpIsToldWhatIsKnownAndTheQueueLetsGo(t *testing.T) {
	t.Parallel()
	for name, state := range states {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				q := newQueue()
				ctx, cancel := context.WithCancelCause(t.Context())
				o, told, others := beginAt(ctx, t, q, name)
				heard := make(chan error, 2)
				o.After = func(err error) { heard <- err }
				cancel(errReason)
				err := <-told
				if errors.Is(err, session.ErrUnknown) != state.unknown || !errors.Is(err, errReason) || !strings.Contains(err.Error(), state.text) {
					t.Errorf("told %v", err)
				}
				full := name == "outside"
				if errors.Is(err, session.ErrOverloaded) != full || q.Stats().Refused > 0 != full {
					t.Errorf("told %v, and %d were refused", err, q.Stats().Refused)
				}
				if !state.unknown {
					holds(t, q, others, 0, 0)
					if len(heard) != 1 {
						t.Errorf("After was called %d times, want once", len(heard))
					}
					collected(t, &o)
					return
				}
				holds(t, q, 1, 5, 0)
				if left := q.Left([]*op{o}); len(left) != 1 || len(heard) != 0 {
					t.Errorf("%d of the batch are left, After was called %d times", len(left), len(heard))
				}
				q.Finish(o, errResult)
				holds(t, q, 0, 0, 0)
				if left := q.Left([]*op{o}); len(left) != 0 || len(heard) != 1 {
					t.Errorf("%d of the batch are left, After was called %d times", len(left), len(heard))
				}
				q.Release(o)
				collected(t, &o)
			})
		})
	}
}

// collected fails the test unless nobody but the caller refers to a write.
func collected(t *testing.T, o **op) {
	t.Helper()
	(*o).After = nil
	gone := weak.Make(*o)
	*o = nil
	for range 10 {
		runtime.GC()
		if gone.Value() == nil {
			return
		}
	}
	t.Error("the write is kept")
}

// A caller whose context does not end is told as well, whatever the state of the
// writer.
func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	errLocked := errors.New("locked")
	for name, state := range states {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				q := newQueue()
				q.HeldUp(errLocked)
				began := time.Now()
				_, told, _ := beginAt(t.Context(), t, q, name)
				err := <-told
				least, most := time.Minute, time.Minute
				if state.unknown { // the writer may still answer
					least, most = time.Minute+time.Second, time.Minute*5/4
				}
				if took := time.Since(began); took < least || took > most {
					t.Errorf("told after %v", took)
				}
				if errors.Is(err, session.ErrUnknown) != state.unknown || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errLocked) {
					t.Errorf("told %v", err)
				}
				for _, part := range []string{"save took longer than Options.WriteTimeout, 1m0s", state.text} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q is not part of %v", part, err)
					}
				}
			})
		})
	}
}

// What is taken at the last moment is not unknown for that.
func TestWhatWasTakenLateHasTimeForItsAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		began := time.Now()
		old := &op{key: "a"}
		told := calls(t.Context(), q, old)[0]
		time.Sleep(time.Minute - time.Second)
		takes(t, q, old)
		end := q.Until([]*op{old})
		if left := end.Sub(began.Add(time.Minute)); left < time.Second || left > 10*time.Second {
			t.Errorf("the batch may last until %v after the end of its caller's patience", left)
		}
		time.Sleep(time.Until(end))
		q.Finish(old, errResult)
		if err := <-told; err != errResult {
			t.Errorf("told %v", err)
		}
		young := &op{key: "b"}
		start(t, q, young)
		if got, want := q.Until([]*op{old, young}), time.Now().Add(time.Minute); !got.Equal(want) {
			t.Errorf("a batch with a young write may last until %v, want %v", got, want)
		}
	})
}

// Who writes knows how soon a batch has to be there.
func TestTheFirstCallerToGiveUpIsKnown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		began := time.Now()
		patient, hurried, late := &op{key: "a"}, &op{key: "b"}, &op{key: "c"}
		first, second := within(t, 10*time.Second), within(t, time.Hour)
		toldLate := calls(second, q, late)[0]
		start(t, q, patient)
		toldHurried := calls(first, q, hurried)[0]
		takes(t, q, late, patient, hurried)
		batch := []*op{patient, hurried, late}
		if got, want := q.Soonest(batch), began.Add(10*time.Second); !got.Equal(want) {
			t.Errorf("the first gives up at %v, want %v", got, want)
		}
		<-toldHurried
		if got, want := q.Soonest(batch), began.Add(time.Minute); !got.Equal(want) {
			t.Errorf("of those who wait on, the first gives up at %v, want %v", got, want)
		}
		q.Finish(patient, nil)
		if err := <-toldLate; !errors.Is(err, session.ErrUnknown) {
			t.Errorf("told %v", err)
		}
		if got := q.Soonest([]*op{hurried, late}); !got.IsZero() {
			t.Errorf("nobody waits, and the first gives up at %v", got)
		}
	})
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// The caller may use its data again as soon as it was told, and only what has
// room is copied.
func TestWhatHasRoomIsOwned(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := rules()
		r.Own = func(o *op) { o.owned++ }
		q := handover.New(r)
		first, behind, huge, outside := &op{key: "a"}, &op{key: "a"}, &op{key: "b", size: mostBytes}, &op{key: "c", size: 1}
		start(t, q, first, behind, huge, outside)
		if first.owned != 1 || huge.owned != 1 || behind.owned+outside.owned > 0 {
			t.Error("it is not the two that have room that are owned")
		}
		takes(t, q, first)
		takes(t, q, huge)
		q.Finish(huge, nil)
		q.Release(first, huge)
		synctest.Wait()
		if first.owned != 1 || huge.owned != 1 || behind.owned != 1 || outside.owned != 1 {
			t.Error("not all are owned once")
		}
	})
}

func TestStartStopsAtTheFirstForWhichThereIsNoRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		fill(t, q, mostItems-1, 0)
		heard := 0
		ops := make([]*op, 4)
		for i := range ops {
			ops[i] = &op{key: fmt.Sprint(i), Op: handover.Op{After: func(error) { heard++ }}}
		}
		err := q.Start(ended(), ops...)
		if !errors.Is(err, session.ErrOverloaded) || heard != 3 {
			t.Errorf("Start: %v; After was called %d times, want 3", err, heard)
		}
		for i, o := range ops[1:] {
			if told := q.Await(t.Context(), o); told != err {
				t.Errorf("write %d was told %v", i+1, told)
			}
		}
		q.Finish(ops[0], nil)
		if err := q.Await(t.Context(), ops[0]); err != nil {
			t.Errorf("the one for which there was room: %v", err)
		}
	})
}

func TestWhoWaitsOutsideWhenTheQueueClosesIsLetIn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newQueue()
		first, behind, huge, outside := &op{key: "a"}, &op{key: "a"}, &op{key: "b", size: mostBytes}, &op{key: "c", size: 1}
		start(t, q, first, behind, huge, outside)
		q.Close()
		var written []*op
		for {
			batch := q.Take()
			for _, o := range batch {
				q.Finish(o, nil)
			}
			q.Release(batch...)
			written = append(written, batch...)
			if len(batch) == 0 && !q.Wait() {
				break
			}
		}
		if len(written) != 4 {
			t.Errorf("%d were written, want all 4", len(written))
		}
		if err := q.Start(t.Context(), &op{key: "d"}); err != session.ErrClosed {
			t.Errorf("Start: %v", err)
		}
	})
}

// The copy may last longer than the patience.
func TestWhatIsToldWhileItIsCopiedIsNotWritten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := rules()
		r.Own = func(*op) { time.Sleep(2 * r.Patience) }
		q := handover.New(r)
		o := &op{key: "a", size: 5}
		if err := q.Do(t.Context(), o); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, session.ErrUnknown) {
			t.Errorf("told %v", err)
		}
		takes(t, q)
		holds(t, q, 0, 0, 0)
	})
}
