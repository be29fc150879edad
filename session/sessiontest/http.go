package sessiontest

import (
	"strings"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// webCase is a promise that session.Manager makes on any store.
type webCase struct {
	name      string
	needs     Ability // skipped without it, unless it is empty
	own       bool    // on a store of its own
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

// RunHTTP tests what browsers see of sessions: managers on the stores that h
// makes, behind servers on the loopback interface, in parallel subtests. Run
// tests the stores themselves.
func RunHTTP(t *testing.T, h Harness) {
	h = h.withDefaults()
	if h.New == nil || h.Expire == nil {
		t.Fatal("sessiontest: a Harness needs New and Expire")
	}
	shared := open(t, h)
	peer := openPeer(t, h, shared)
	for _, group := range [][]webCase{
		slowCases(), graceCases(), concurrentCases(), limitCases(), lifetimeCases(), renewalCases(), touchedCases(),
		streamCases(), beginningCases(), hijackCases(), outageCases(), namedCases(), devicesCases(), frugalCases(),
	} {
		for _, c := range group {
			for _, p := range c.protocols {
				t.Run(c.name+", by "+strings.ReplaceAll(string(p), "/", " "), func(t *testing.T) {
					t.Parallel()
					if c.needs != "" && !has(shared, c.needs) {
						t.Skipf("the store has no %s", c.needs)
					}
					s, other := shared, peer
					if c.own {
						s, other = open(t, h), session.Store(nil)
					}
					c.run(&web{env: newEnv(t, h, s, other), protocol: p})
				})
			}
		}
	}
}
