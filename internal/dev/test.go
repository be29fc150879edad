package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"

	"github.com/sojourn-go/sojourn/internal/syspkg"
	"github.com/sojourn-go/sojourn/internal/testrig/chromium"
	"github.com/sojourn-go/sojourn/internal/testrig/mysqlserver"
	"github.com/sojourn-go/sojourn/internal/testrig/nodejs"
	"github.com/sojourn-go/sojourn/internal/testrig/pgserver"
)

// watched builds for the race detector. All steps build alike, or each package
// would be compiled once more for lint and for the programs that tests start.
// SQLite, which is C made Go, is left alone. By far most of its tests' time goes
// there otherwise, and it is no code of this project.
const watched = "GOFLAGS=-race -gcflags=modernc.org/sqlite/lib=-race=false"

// unwatched builds as users do.
const unwatched = "GOFLAGS="

// test stops at the first step that fails.
func test(r *runner) error {
	// Nothing may be skipped: what the tests need is there now.
	r.env = append(r.env, "CI=true")
	sample := fmt.Sprint(mutants, "=", rand.Uint32())
	r.note("The cache's protocol is tried with a sample, %s; nightly does more.", sample)
	// Each package runs servers of its own. The slowest begin first, so that the
	// others fill the time that they leave.
	packages := []string{fmt.Sprint("-p=", min(runtime.NumCPU(), 4)), "./pgstore", "./mysqlstore", "./invalidation", "./..."}
	// Tests wait for servers more than they compute, hence -parallel. With -short
	// what chance decides is repeated less often. Vet runs with lint.
	tests := func(in []string, more ...string) []string {
		return slices.Concat(in, []string{"test", "-vet=off", "-count=1", "-parallel=8", testLimit}, more)
	}
	steps := []func() error{
		func() error { return r.step("setup", r.setupAll) },
		// One goroutine runs the model: there is nothing to watch, and it is ten
		// times faster unwatched.
		func() error {
			r.env = append(r.env, modelSeeds+"=2000", unwatched)
			return r.goTest("the model of the cache", "test", "-vet=off", "-count=1", testLimit, "-run=^TestModel", "./invalidation")
		},
		func() error {
			r.env = append(r.env, modelSeeds+"=50", sample, watched) // the last one counts
			return r.goTest("tests", tests(nil, append([]string{"-short"}, packages...)...)...)
		},
		func() error {
			return r.goTest("tests of bench", tests([]string{"-C", "bench"}, "./...")...)
		},
		func() error {
			return r.goTest("stories of several nodes, Node live, and a real browser", tests([]string{"-C", "test"}, "./...")...)
		},
		// At the end, since SQLite takes a minute to compile, on one processor. The
		// first tests need not wait for it.
		func() error { return lint(r) },
	}
	for _, do := range steps {
		if err := do(); err != nil {
			return r.finish(err)
		}
	}
	return r.finish(nil)
}

// setupAll installs what the tests need and is not there.
func (r *runner) setupAll() error {
	if err := r.setup(); err != nil {
		return err
	}
	if err := r.setupNode(); err != nil {
		return err
	}
	return r.setupBrowser()
}

// setupBrowser provides the browser that tests of real browsers run.
func (r *runner) setupBrowser() error {
	if err := chromium.Install(r.ctx, r.out); err != nil {
		return err
	}
	path, err := chromium.Find()
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "Chromium: %s\n", path)
	return nil
}

// setupNode provides Node and npm, which only the interoperability tests need.
func (r *runner) setupNode() error {
	if err := nodejs.Install(r.ctx, r.out); err != nil {
		return err
	}
	installed, err := nodejs.Find(r.ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "Node: %s (%s)\n", installed.Version, installed.Node)
	return installed.CanCompile()
}

// setup installs what benchmarks need too.
func (r *runner) setup() error {
	installed, err := pgserver.Find(r.ctx)
	if errors.Is(err, pgserver.ErrNotInstalled) {
		if err = pgserver.Install(r.ctx, r.out); err == nil {
			installed, err = pgserver.Find(r.ctx)
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "Postgres: %s (%s)\n", installed.Release, installed.BinDir)

	bouncer, err := pgserver.FindBouncer()
	if errors.Is(err, pgserver.ErrNoBouncer) {
		if err = pgserver.InstallBouncer(r.ctx, r.out); err == nil {
			bouncer, err = pgserver.FindBouncer()
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "PgBouncer: %s\n", bouncer)
	if err := r.setupMySQL(mysqlserver.MariaDB); err != nil {
		return err
	}
	// MySQL is fetched from where it is not always to be had.
	if err := r.setupMySQL(mysqlserver.MySQL); err != nil {
		r.note("MySQL is not tested: %v", err)
	}
	return r.setupCompiler()
}

func (r *runner) setupMySQL(f mysqlserver.Flavour) error {
	installed, err := mysqlserver.Find(r.ctx, f)
	if errors.Is(err, mysqlserver.ErrNotInstalled) {
		if err = mysqlserver.Install(r.ctx, f, r.out); err == nil {
			installed, err = mysqlserver.Find(r.ctx, f)
		}
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "%s: %s\n", f, installed.Release)
	return nil
}

// setupCompiler provides the C compiler that the race detector needs.
func (r *runner) setupCompiler() error {
	out, err := exec.CommandContext(r.ctx, "go", "env", "CC").Output()
	if err != nil {
		return fmt.Errorf("go env CC: %w", err)
	}
	cc := firstWord(string(out))
	path, err := exec.LookPath(cc)
	if err == nil {
		fmt.Fprintf(r.out, "C compiler: %s\n", path)
		return nil
	}
	compiler := syspkg.Package{Debian: "gcc libc6-dev", MacOS: "xcode-select --install"}
	if err := compiler.Install(r.ctx, r.out); err != nil {
		return fmt.Errorf("the race detector needs the C compiler %s: %w", cc, err)
	}
	return nil
}
