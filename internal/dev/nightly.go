package main

import "errors"

// Variables of the tests of package invalidation.
const (
	mutants    = "SOJOURN_MUTANTS"
	modelSeeds = "SOJOURN_MODEL_SEEDS"
)

// nightly runs the proofs that take long, of which test has a sample each, and
// goes on after a failure.
func nightly(r *runner) error {
	if err := r.step("setup", r.setupAll); err != nil {
		return r.finish(err)
	}
	inCI := []string{"CI=true"}
	r.env = append(inCI, mutants+"=all", modelSeeds+"=200000")
	proofs := errors.Join(
		r.goTest("every mutant of the cache's protocol", "test", "-count=1", testLimit, "-run=^TestEveryMutantIsFound$", "./invalidation"),
		r.goTest("the model of the cache, with many seeds", "test", "-count=1", testLimit, "-run=^TestModel", "./invalidation"),
	)
	r.env = inCI
	return r.finish(errors.Join(proofs,
		r.goTest("races and faults, three times", "test", "-race", "-count=3", "-parallel=8", testLimit, "-p=1",
			"./pgstore", "./mysqlstore", "./sqlitestore", "./memstore", "./nodestore", "./session", "./session/difftest", "./leader"),
		r.goTest("each benchmark once", "test", "-short", "-run=^$", "-bench=.", "-benchtime=1x", testLimit, "-p=1", "./..."),
		r.step("fuzz tests", func() error { return fuzz(r) }),
		matrix(r, nil),
	))
}
