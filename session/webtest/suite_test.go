package webtest

import (
	"strings"
	"testing"
)

// webCase is a promise that session.Manager makes on any store.
type webCase struct {
	name      string
	own       bool // on a store of its own
	protocols []protocol
	run       func(w *web)
}

// protocol is the version of HTTP that browsers and servers speak.
type protocol string

const (
	http1 protocol = "HTTP/1.1"
	http2 protocol = "HTTP/2.0"
)

var (
	both     = []protocol{http1, http2}
	onlyHTTP = []protocol{http1} // where the protocol makes no difference
)

// run tests what browsers see of sessions: managers on two nodes of a store, behind
// servers on the loopback interface, in parallel subtests.
func run(t *testing.T, open opener) {
	shared := open(t)
	for _, group := range [][]webCase{
		slowCases(), graceCases(), concurrentCases(), limitCases(), lifetimeCases(), renewalCases(), touchedCases(),
		streamCases(), beginningCases(), hijackCases(), outageCases(), namedCases(), devicesCases(), frugalCases(),
		oldCases(),
	} {
		for _, c := range group {
			for _, p := range c.protocols {
				t.Run(c.name+", by "+strings.ReplaceAll(string(p), "/", " "), func(t *testing.T) {
					t.Parallel()
					nodes := shared
					if c.own {
						nodes = open(t)
					}
					c.run(&web{env: newEnv(t, nodes), protocol: p})
				})
			}
		}
	}
}
