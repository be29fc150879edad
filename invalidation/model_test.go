package invalidation

import (
	"math"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// In the environment: the one seed that is run, with its history.
const seedVariable = "SOJOURN_MODEL_SEED"

// In the environment: how many seeds are run.
const seedsVariable = "SOJOURN_MODEL_SEEDS"

const defaultSeeds = 10_000

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

func TestModelServesNothingThatIsDeadForLongerThanTheLease(t *testing.T) {
	t.Parallel()
	if os.Getenv(seedVariable) != "" {
		seed := number(t, seedVariable, 0)
		s := play(seed, &simCaches{}, true)
		t.Logf("seed %d: %+v\n%s", seed, s.profile, s.report(math.MaxInt))
		if s.failure != "" {
			t.Fail()
		}
		return
	}
	seeds := number(t, seedsVariable, defaultSeeds)
	var next, failing atomic.Uint64
	var reads, hits, joined atomic.Int64
	t.Run("seeds", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				caches := &simCaches{}
				for failing.Load() == 0 {
					seed := next.Add(1)
					if seed > seeds {
						return
					}
					s := play(seed, caches, false)
					for _, n := range s.nodes {
						reads.Add(int64(n.reads))
						hits.Add(int64(n.hits))
						joined.Add(int64(n.joined))
					}
					if s.failure != "" && failing.CompareAndSwap(0, seed) {
						again := play(seed, caches, true)
						t.Errorf("seed %d (%s=%d shows it alone): %+v\n%s", seed, seedVariable, seed, again.profile, again.report(150))
						if again.failure != s.failure {
							t.Errorf("the first time it was: %s", s.failure)
						}
					}
				}
			})
		}
	})
	t.Logf("%d seeds: %d reads, %d hits, %d joined", seeds, reads.Load(), hits.Load(), joined.Load())
	if hits.Load()*5 < reads.Load() && failing.Load() == 0 {
		t.Errorf("only %d of %d reads were hits: this proves too little", hits.Load(), reads.Load())
	}
}

// play runs a seed. After every fourth, when all is well again, each node has
// to answer from its cache.
func play(seed uint64, caches *simCaches, tracing bool) *sim {
	s := newSim(seed, caches, tracing)
	s.run(modelActive)
	if seed%4 != 0 || s.failure != "" {
		return s
	}
	s.run(modelActive + modelCalm - time.Second)
	r := s.db.create(s.db.newKey(), "eve", time.Minute, time.Minute)
	before := map[*simNode]int{}
	for _, n := range s.nodes {
		before[n] = n.hits
		n.every(100*time.Millisecond, func() { n.read(r, 0) })
	}
	s.run(modelActive + modelCalm)
	for _, n := range s.nodes {
		if n.hits == before[n] {
			s.fail(n, "it does not answer from its cache though all is well again")
		}
	}
	return s
}
