// Package sessiontest has a Browser for tests of handlers, and the suite that tells
// whether a session.Store keeps its promises.
//
// # Tests of handlers
//
// A Browser keeps cookies over several requests, logs users in without the form, and
// shows what is in their session afterwards:
//
//	b := sessiontest.NewBrowser(t, sessions, handler)
//	b.Login("alice") // without the form
//	if answer := b.PostForm("/cart", url.Values{"item": {"book"}}); answer.StatusCode != http.StatusSeeOther {
//		t.Errorf("the answer is %s", answer.Status)
//	}
//	if cart := sessiontest.Value[[]string](b, "cart"); !slices.Equal(cart, []string{"book"}) {
//		t.Errorf("the cart has %v", cart)
//	}
//
// The sessions are in the manager's store; memstore is the one for tests.
//
// # Tests of stores
//
// A store runs the suite from a test of its own:
//
//	func TestConformance(t *testing.T) {
//		sessiontest.Run(t, sessiontest.Harness{New: newStore, Expire: expire})
//	}
//
//	func TestHTTP(t *testing.T) {
//		sessiontest.RunHTTP(t, sessiontest.Harness{New: newStore, Expire: expire})
//	}
//
//	func BenchmarkStore(b *testing.B) {
//		sessiontest.Benchmark(b, sessiontest.Harness{New: newStore})
//	}
//
// The optional interfaces that a store has are tested with it. Name them in
// Harness.Require, so that a store that loses one fails. What the suite cannot
// do from outside, such as making time pass, the Harness does for it; cases
// whose hook is nil are skipped.
package sessiontest
