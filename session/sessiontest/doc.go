// Package sessiontest tells whether a session.Store keeps its promises. A store
// runs the suite from a test of its own:
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
