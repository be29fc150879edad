package examples_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/loopback"
)

var programs string // the folder of the built examples

// build builds all examples.
var build = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", programs+string(filepath.Separator), "./...").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if programs, err = os.MkdirTemp("", "examples"); err != nil {
			fmt.Println(err)
			return 1
		}
		defer func() { _ = os.RemoveAll(programs) }()
		return dbtest.Run(m)
	}())
}

// browser is one browser of an example that runs. Unlike Go's own cookie jar, and
// like Chrome and Firefox, it sends Secure cookies to this machine over HTTP.
type browser struct {
	t       *testing.T
	address string
	cookies map[string]string
}

// run starts an example and returns a function that makes browsers of it. The
// test ends it in good order, and wants it to say that all is well.
func run(t *testing.T, name string, environment ...string) (open func() *browser) {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(dbtest.Patience)
	for {
		port, err := loopback.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		address := loopback.Addr(port)
		var output bytes.Buffer
		program := exec.Command(filepath.Join(programs, name))
		program.Env = append(os.Environ(), append(environment, "ADDRESS="+address)...)
		program.Stdout, program.Stderr = &output, &output
		if err := program.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- program.Wait() }()
		stop := sync.OnceFunc(func() {
			kill := time.AfterFunc(dbtest.Patience, func() { _ = program.Process.Kill() })
			defer kill.Stop()
			if err := program.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Errorf("%s: %v\n%s", name, err, output.String())
			}
		})
		for {
			select {
			case err := <-ended:
				if strings.Contains(output.String(), "address already in use") && time.Now().Before(deadline) {
					break // somebody took the port meanwhile
				}
				t.Fatalf("%s: %v\n%s", name, err, output.String())
			default:
				if answer, err := http.Get("http://" + address + "/nothing"); err == nil {
					answer.Body.Close()
					t.Cleanup(http.DefaultClient.CloseIdleConnections)
					t.Cleanup(stop)
					return func() *browser { return &browser{t, address, map[string]string{}} }
				}
				if time.Now().After(deadline) {
					stop()
					t.Fatalf("%s does not serve", name)
				}
				time.Sleep(10 * time.Millisecond)
				continue
			}
			break
		}
	}
}

// do sends a request such as "GET /" and checks the answer's text.
func (b *browser) do(request, want string) {
	b.t.Helper()
	method, path, _ := strings.Cut(request, " ")
	ctx, cancel := context.WithTimeout(b.t.Context(), dbtest.Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+b.address+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for name, value := range b.cookies {
		r.Header.Add("Cookie", name+"="+value)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if got := strings.TrimSpace(string(text)); answer.StatusCode != http.StatusOK || got != want {
		b.t.Errorf("%s: %s %q, want %q", request, answer.Status, got, want)
	}
	for _, c := range answer.Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
}

// copied is a browser with the cookies that b has now.
func (b *browser) copied() *browser {
	other := &browser{b.t, b.address, map[string]string{}}
	for name, value := range b.cookies {
		other.cookies[name] = value
	}
	return other
}

var versionCookie = regexp.MustCompile(`-v\d$`)

// story is what the examples with a Manager do.
func story(t *testing.T, open func() *browser) {
	alice := open()
	alice.do("GET /", `visit 1 of ""`)
	before := alice.copied()
	alice.do("POST /login", "welcome")
	alice.do("GET /", `visit 2 of "alice"`)
	alice.do("GET /", `visit 3 of "alice"`)
	before.do("GET /", `visit 1 of ""`) // the ID of before the login is dead

	after := alice.copied()
	alice.do("POST /logout", "bye")
	for name := range alice.cookies {
		if !versionCookie.MatchString(name) { // that ends by itself
			t.Errorf("after the logout the browser has the cookie %s", name)
		}
	}
	after.do("GET /", `visit 1 of ""`)

	phone, laptop := open(), open()
	phone.do("POST /login", "welcome")
	laptop.do("POST /login", "welcome")
	laptop.do("POST /logout-everywhere", "ended 2 sessions")
	phone.do("GET /", `visit 1 of ""`)
	laptop.do("POST /logout-everywhere", "nobody is logged in")
}

// What the README shows is this program, and it works.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("quickstart/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(program), "\npackage main")
	if !strings.Contains(string(readme), "```go\npackage main"+code+"```\n") {
		t.Error("the README shows another program than examples/quickstart")
	}
	alice := run(t, "quickstart", "DATABASE_URL="+dbtest.Postgres(t).Database(t))()
	alice.do("GET /", `visit 1 of ""`)
	alice.do("POST /login", "welcome")
	alice.do("GET /", `visit 2 of "alice"`)
	stolen := alice.copied()
	alice.do("POST /logout", "bye")
	stolen.do("GET /", `visit 1 of ""`)
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	story(t, run(t, "postgres", "DATABASE_URL="+dbtest.Postgres(t).Database(t)))
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	story(t, run(t, "sqlite", "DATABASE_FILE="+filepath.Join(t.TempDir(), "data", "sessions.db")))
}

// Node's part is played by what connect-pg-simple and express-session make: the
// table, a row, and a cookie that was signed with the secret "keyboard cat".
func TestExpress(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t).Database(t)
	db := dbtest.Conn(t, dsn)
	const sid = "Ef7mJ0aV3kQ-xw_9LzTgYcB2NdR5sHpU"
	for _, statement := range []string{
		`CREATE TABLE "session" ("sid" varchar NOT NULL COLLATE "default", "sess" json NOT NULL, "expire" timestamp(6) NOT NULL)`,
		`ALTER TABLE "session" ADD CONSTRAINT "session_pkey" PRIMARY KEY ("sid") NOT DEFERRABLE INITIALLY IMMEDIATE`,
		`CREATE INDEX "IDX_session_expire" ON "session" ("expire")`,
		`INSERT INTO "session" (sess, expire, sid) SELECT '{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"},` +
			`"visits":2,"passport":{"user":"bob"}}', now() + interval '1 day', '` + sid + `'`,
	} {
		if _, err := db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	rows := func(where string) (n int) {
		if err := db.QueryRow(t.Context(), `SELECT count(*) FROM session WHERE `+where).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}

	bob := run(t, "express", "DATABASE_URL="+dsn, "SESSION_SECRET=keyboard cat")()
	bob.cookies["connect.sid"] = "s%3A" + sid + ".A6XpXohwz%2FxtqdhuyYmfviip%2F9EDInd4wQHE6%2BmAr6U"
	bob.do("GET /go/hello", `visit 3 of "bob"`)
	if rows(`sid = '`+sid+`' AND sess->>'visits' = '3' AND sess->'passport'->>'user' = 'bob'`) != 1 {
		t.Error("Node does not find the visit that Go has counted")
	}
	before := bob.copied()
	bob.do("POST /go/login", "welcome")
	bob.do("GET /go/hello", `visit 1 of "alice"`)
	before.do("GET /go/hello", `visit 1 of ""`)
	if rows(`sid = '`+sid+`'`) != 0 || rows(`sess->'passport'->>'user' = 'alice'`) != 1 {
		t.Error("the login has not replaced the row of before")
	}
	after := bob.copied()
	bob.do("POST /go/logout", "bye")
	after.do("GET /go/hello", `visit 1 of ""`)
	if rows(`sess->'passport'->>'user' = 'alice'`) != 0 {
		t.Error("the row is still there after the logout")
	}
}
