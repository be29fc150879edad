package main

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

//go:embed postgres/package.json postgres/package-lock.json
var npmFiles embed.FS

var (
	matrixVersions = []string{"14", "15", "16", "17", "18"}
	matrixPackages = []string{"./migrations", "./internal/direct", "./leader", "./invalidation", "./pgstore"}
)

// matrix tests against each version and, unlike test, goes on after a failure.
func matrix(r *runner, versions []string) error {
	if len(versions) == 0 {
		versions = matrixVersions
	}
	for _, v := range versions {
		if !slices.Contains(matrixVersions, v) {
			return fmt.Errorf("matrix: Postgres %s is not one of %s", v, strings.Join(matrixVersions, ", "))
		}
	}
	if err := r.step("setup", r.setup); err != nil {
		return err
	}
	// Not below the user's home: the servers of root run as another user.
	dir, err := os.MkdirTemp("", "sojourn-matrix-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := r.step("Postgres from npm", func() error { return r.unpackPostgres(dir) }); err != nil {
		return err
	}
	var failures []error
	results := map[string]result{}
	for _, v := range versions {
		res, err := r.testWith(v, filepath.Join(dir, "node_modules", "pg"+v, "native", "bin"))
		results[v] = res
		if err != nil {
			failures = append(failures, err)
		}
		if r.ctx.Err() != nil {
			break
		}
	}
	fmt.Fprintln(r.out)
	table := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "Postgres\tresult\ttime\trelease\n")
	for _, v := range versions {
		if res, ok := results[v]; ok {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", v, res.outcome, round(res.took), res.release)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return errors.Join(failures...)
}

type result struct {
	outcome string
	took    time.Duration
	release string
}

func (r *runner) testWith(version, bin string) (result, error) {
	start := time.Now()
	err := r.step("Postgres "+version, func() error {
		sub := &runner{ctx: r.ctx, out: r.out, env: append(slices.Clone(r.env), "CI=true", "PG_BIN="+bin)}
		args := append([]string{"test", "-short", "-count=1", "-parallel=8", testLimit}, matrixPackages...)
		return sub.command("go", args...)
	})
	res := result{outcome: "ok", took: time.Since(start), release: release(bin)}
	if err != nil {
		res.outcome = "FAILED"
	}
	return res, err
}

func release(bin string) string {
	out, err := exec.Command(filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}

// unpackPostgres installs all versions into dir, for every user to read.
func (r *runner) unpackPostgres(dir string) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("the npm packages are for linux/amd64, not %s/%s: run the tests with PG_BIN instead", runtime.GOOS, runtime.GOARCH)
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("npm is needed to fetch the versions of Postgres: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	files, err := fs.Sub(npmFiles, "postgres")
	if err != nil {
		return err
	}
	if err := os.CopyFS(dir, files); err != nil {
		return err
	}
	err = r.command(npm, "ci", "--prefix="+dir, "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	if err != nil {
		return err
	}
	for _, v := range matrixVersions {
		if err := hydrate(filepath.Join(dir, "node_modules", "pg"+v)); err != nil {
			return fmt.Errorf("pg%s: %w", v, err)
		}
	}
	return nil
}

// hydrate makes the symbolic links that npm packages cannot hold, from the list
// that these ones bring instead.
func hydrate(dir string) error {
	root, err := os.OpenRoot(dir) // no entry of the list gets out of the package
	if err != nil {
		return err
	}
	defer root.Close()
	text, err := root.ReadFile("native/pg-symlinks.json")
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return err
	}
	for _, l := range links {
		to, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err != nil {
			return err
		}
		if err := root.Symlink(to, l.Target); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
