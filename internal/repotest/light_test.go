package repotest

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lightest lists the modules that a program compiles which imports a public
// package, this one and the standard library aside. Whoever adds one asks for it.
var lightest = map[string]string{
	"session":               "httpsnoop zap multierr",
	"session/sessiontest":   "httpsnoop zap multierr",
	"memstore":              "httpsnoop zap multierr",
	"leader":                "zap multierr",
	"leader/pglock":         "zap multierr pgx pgpassfile pgservicefile puddle sync text",
	"leader/mysqllock":      "zap multierr mysql edwards25519",
	"invalidation":          "httpsnoop zap multierr pgx pgpassfile pgservicefile puddle sync text pgxlisten otter",
	"pgstore":               "httpsnoop zap multierr pgx pgpassfile pgservicefile puddle sync text pgxlisten otter",
	"mysqlstore":            "httpsnoop zap multierr mysql edwards25519",
	"sqlitestore":           "httpsnoop zap multierr " + sqliteDriver,
	"adapters/fiberstore":   "httpsnoop zap multierr",
	"adapters/scsstore":     "httpsnoop zap multierr",
	"adapters/moving":       "",
	"adapters/gorillastore": "httpsnoop zap multierr sessions securecookie",
	"adapters/ginstore": "httpsnoop zap multierr sessions securecookie mimetype sse gin locales universal-translator validator " +
		"context go-urn go-isatty go-toml codec crypto net sys text protobuf yaml.v3",
	"nodestore": "httpsnoop zap multierr mysql edwards25519",
	"migrations": "zap multierr pgx pgpassfile pgservicefile puddle sync text " +
		"tern crypto sprig mergo goutils semver uuid xstrings copystructure reflectwalk decimal cast",
	"migrations/mysql":  "mysql edwards25519",
	"migrations/sqlite": sqliteDriver,
}

const sqliteDriver = "sqlite libc mathutil memory bigfft go-humanize uuid sys"

// compiled is a package as "go list -deps" shows it.
type compiled struct {
	path, module string // module is empty in the standard library
	imports      []string
}

// compiledBy returns the packages that a program needs which imports the package
// in folder, by their paths.
func compiledBy(t *testing.T, folder string) map[string]compiled {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", `{{.ImportPath}} {{with .Module}}{{.Path}}{{else}}-{{end}} {{join .Imports " "}}`, ".")
	cmd.Dir = filepath.Join(root, folder) // it may be a module of its own
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	all := map[string]compiled{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		all[fields[0]] = compiled{path: fields[0], module: strings.TrimPrefix(fields[1], "-"), imports: fields[2:]}
	}
	return all
}

const ourModule = "github.com/sojourn-go/sojourn"

// shortOf is a module's name as lightest has it: "github.com/jackc/pgx/v5" is pgx.
func shortOf(module string) string {
	parts := strings.Split(module, "/")
	last := parts[len(parts)-1]
	if len(last) > 1 && last[0] == 'v' && last[1] >= '0' && last[1] <= '9' && len(parts) > 1 {
		last = parts[len(parts)-2]
	}
	return last
}

// wayTo is the shortest chain of imports from a package to one of module.
func wayTo(all map[string]compiled, from, module string) string {
	type step struct{ at, way string }
	seen := map[string]bool{from: true}
	for queue := []step{{from, from}}; len(queue) > 0; queue = queue[1:] {
		here := queue[0]
		if all[here.at].module == module {
			return here.way
		}
		for _, next := range all[here.at].imports {
			if _, ok := all[next]; ok && !seen[next] {
				seen[next] = true
				queue = append(queue, step{next, here.way + "\n\timports " + next})
			}
		}
	}
	return "no chain of imports found"
}

func TestNobodyCompilesWhatHeDoesNotRun(t *testing.T) {
	t.Parallel()
	for folder, list := range lightest {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			wanted := map[string]bool{}
			for _, short := range strings.Fields(list) {
				wanted[short] = true
			}
			all := compiledBy(t, folder)
			found := map[string]bool{}
			for _, p := range all {
				if p.module != "" && p.module != ourModule && !strings.HasPrefix(p.module, ourModule+"/") {
					found[p.module] = true
				}
			}
			for module := range found {
				short := shortOf(module)
				if _, listed := wanted[short]; !listed {
					t.Errorf("a new module, %s:\n%s", module, wayTo(all, ourModule+"/"+folder, module))
				}
				wanted[short] = false
			}
			for _, short := range slices.Sorted(maps.Keys(wanted)) {
				if !wanted[short] {
					continue
				}
				t.Errorf("%s is not compiled any more: take it off the list", short)
			}
		})
	}
}

// Every public package has its list.
func TestEveryPublicPackageIsHeldLight(t *testing.T) {
	t.Parallel()
	for key, files := range packages(t) {
		folder, name, _ := strings.Cut(key, " ")
		if name == "main" || strings.HasSuffix(name, "_test") || strings.HasSuffix(files[0].name, "_test.go") ||
			strings.Contains("/"+folder+"/", "/internal/") || slices.Contains([]string{"bench", "test", "tools"}, strings.Split(folder, "/")[0]) {
			continue
		}
		if _, ok := lightest[folder]; !ok {
			t.Errorf("package %s has no list of the modules that it compiles", folder)
		}
	}
}

// Those who use a store have no framework in their build, nor in their go.sum.
func TestTheModuleKnowsNoFramework(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, owner := range []string{"alexedwards", "gorilla", "gin-contrib", "gin-gonic", "labstack", "gofiber", "go-chi", "valyala"} {
			if strings.Contains(string(text), "github.com/"+owner+"/") {
				t.Errorf("%s names a module of github.com/%s", name, owner)
			}
		}
	}
}
