package reqsession

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Lock guards the session of one request. Its holder may call functions of the
// application, by Call. Such a function that uses the session would wait for
// itself: it is refused instead, and so is what called it.
type Lock struct {
	mu     sync.Mutex
	caller atomic.Uint64 // the goroutine that is in a Call; 0 if none is
	used   bool          // whether the function has used the session
}

// Enter is Lock for what may be refused. It reports whether it has locked.
func (l *Lock) Enter() bool {
	if l.called() {
		l.used = true
		return false
	}
	l.mu.Lock()
	return true
}

// Lock is for what only looks. A function that is called with the lock held may
// do so without waiting; its Call will fail all the same.
func (l *Lock) Lock() {
	if l.called() {
		l.used = true
		return
	}
	l.mu.Lock()
}

// Unlock undoes an Enter or a Lock.
func (l *Lock) Unlock() {
	if !l.called() {
		l.mu.Unlock()
	}
}

// Call runs a function of the application, with the lock held. It reports whether
// the function has left the session alone, as it must.
func (l *Lock) Call(f func()) (alone bool) {
	before, used := l.caller.Swap(goroutine()), l.used
	defer func() {
		l.caller.Store(before)
		l.used = used
	}()
	l.used = false
	f()
	return !l.used
}

// called reports whether a function that Call runs is what asks.
func (l *Lock) called() bool {
	caller := l.caller.Load()
	return caller != 0 && caller == goroutine()
}

// goroutine returns the number of this goroutine, which is not 0. Only a trace
// tells it: "goroutine 18 [running]:".
func goroutine() (n uint64) {
	var trace [64]byte
	for _, c := range trace[len("goroutine "):runtime.Stack(trace[:], false)] {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}
