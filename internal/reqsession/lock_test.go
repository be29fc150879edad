package reqsession

import (
	"sync"
	"testing"
)

func TestAFunctionThatUsesTheSessionIsRefusedAndDoesNotWait(t *testing.T) {
	t.Parallel()
	for what, use := range map[string]func(*Lock){
		"Enter": func(l *Lock) {
			if l.Enter() {
				t.Error("it has entered")
				l.Unlock()
			}
		},
		"Lock": func(l *Lock) {
			l.Lock()
			defer l.Unlock()
		},
	} {
		var l Lock
		if !l.Enter() {
			t.Fatal("a free lock is refused")
		}
		if l.Call(func() { use(&l) }) {
			t.Errorf("%s: it is said to have left the session alone", what)
		}
		if !l.Call(func() {}) {
			t.Errorf("%s: what uses nothing is said to have used the session", what)
		}
		l.Unlock()
		if !l.Enter() {
			t.Errorf("%s: the lock is refused afterwards", what)
		}
		l.Unlock()
	}
}

func TestOthersWaitWhileAFunctionRuns(t *testing.T) {
	t.Parallel()
	var l Lock
	var wg sync.WaitGroup
	sum := 0 // guarded by the lock
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if !l.Enter() {
					t.Error("another goroutine's function had this one refused")
					return
				}
				if !l.Call(func() { sum++ }) {
					t.Error("another goroutine's use counts for this one's function")
				}
				l.Unlock()
				l.Lock()
				sum++
				l.Unlock()
			}
		})
	}
	wg.Wait()
	if sum != 8*200*2 {
		t.Errorf("the sum is %d", sum)
	}
}

func TestALockIsFreeAfterAFunctionThatPanics(t *testing.T) {
	t.Parallel()
	var l Lock
	func() {
		defer func() { _ = recover() }()
		l.Lock()
		defer l.Unlock()
		l.Call(func() { panic("oops") })
	}()
	if !l.Enter() {
		t.Fatal("it is refused")
	}
	l.Unlock()
}
