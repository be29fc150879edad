package nodestore_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

// page is a part of an Express application that was moved to Go: it greets who
// has logged in there, counts in the same session, and logs in and out.
func page(store *nodestore.Store, secret string) (http.Handler, error) {
	sessions, err := nodestore.NewExpress(store, nodestore.ExpressOptions{Secrets: session.Secrets(secret)}) // as in Node
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /go/hello", func(w http.ResponseWriter, r *http.Request) {
		s, err := nodestore.FromContext(r.Context())
		if err != nil {
			return // the store is away: the answer is 503
		}
		_ = nodestore.Update(s, "visits", func(n int) int { return n + 1 })
		visits, _ := nodestore.Value[int](s, "visits")
		fmt.Fprintf(w, "user %q, visit %d", s.User(), visits)
	})
	mux.HandleFunc("POST /go/login", func(w http.ResponseWriter, r *http.Request) {
		s, err := nodestore.FromContext(r.Context())
		if err != nil {
			return
		}
		if err := s.Regenerate(r.Context()); err != nil { // after checking the password
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		_ = s.SetPath([]string{"passport", "user"}, "bob") // what passport looks for
	})
	mux.HandleFunc("POST /go/logout", func(w http.ResponseWriter, r *http.Request) {
		s, err := nodestore.FromContext(r.Context())
		if err != nil {
			return
		}
		if err := s.Destroy(r.Context()); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
		}
	})
	return sessions.Handler(mux), nil
}

// A Go page beside an Express application, behind the same domain.
func ExampleNewExpress() {
	ctx := context.Background()
	store, done, err := nodeTable(ctx, nodestore.ConnectSQLite())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer done()
	handler, err := page(store, "keyboard cat")
	if err != nil {
		fmt.Println(err)
		return
	}
	// Node has logged Alice in: it stored this, and gave her the cookie.
	const id = "Ef7mJ0aV3kQ-xw_9LzTgYcB2NdR5sHpU"
	const cookie = "connect.sid=s%3AEf7mJ0aV3kQ-xw_9LzTgYcB2NdR5sHpU.A6XpXohwz%2FxtqdhuyYmfviip%2F9EDInd4wQHE6%2BmAr6U"
	err = store.Set(ctx, id, []byte(`{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"},"visits":2,"passport":{"user":"alice"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}

	request(handler, "GET /go/hello", cookie)
	e, err := store.Get(ctx, id)
	fmt.Println(string(e.Data), err) // what Node finds

	request(handler, "POST /go/logout", cookie)
	request(handler, "GET /go/hello", cookie)
	bob := request(handler, "POST /go/login", "")
	request(handler, "GET /go/hello", bob)
	// Output:
	// GET /go/hello: user "alice", visit 3
	// {"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"},"visits":3,"passport":{"user":"alice"}} <nil>
	// POST /go/logout:
	// GET /go/hello: user "", visit 1
	// POST /go/login:
	// GET /go/hello: user "bob", visit 1
}

// A job changes sessions without a browser. Save compares with what was read.
func ExampleDocument() {
	ctx := context.Background()
	store, done, err := nodeTable(ctx, nodestore.ConnectSQLite())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer done()
	if err := store.Set(ctx, "some-id", []byte(`{"cookie":{},"user":{"id":12345678901234567890,"plan":"free"}}`)); err != nil {
		fmt.Println(err)
		return
	}
	e, err := store.Get(ctx, "some-id")
	if err != nil {
		fmt.Println(err)
		return
	}
	doc, err := nodestore.ParseDocument(e.Data)
	if err != nil {
		fmt.Println(err)
		return
	}
	plan, err := nodestore.Value[string](doc, "user", "plan")
	fmt.Println(plan, err, doc.Set("pro", "user", "plan"))
	e, err = store.Save(ctx, e, doc.Bytes(), e.Expires)
	fmt.Println(string(e.Data), err)
	// Output:
	// free <nil> <nil>
	// {"cookie":{},"user":{"id":12345678901234567890,"plan":"pro"}} <nil>
}

// nodeTable is an empty table.
func nodeTable(ctx context.Context, layout nodestore.Layout) (*nodestore.Store, func(), error) {
	dir, err := os.MkdirTemp("", "sojourn")
	if err != nil {
		return nil, nil, err
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "node.db"))
	if err != nil {
		return nil, nil, err
	}
	store, err := nodestore.New(ctx, db, layout, nodestore.Options{CreateTable: true})
	return store, func() {
		_ = store.Close(ctx)
		_ = db.Close()
		_ = os.RemoveAll(dir)
	}, err
}

// request prints an answer, and returns the cookie that it sets.
func request(handler http.Handler, what, cookie string) string {
	method, path, _ := strings.Cut(what, " ")
	r := httptest.NewRequest(method, "https://www.example.com"+path, nil)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Result().Body)
	fmt.Println(strings.TrimSpace(what + ": " + string(body)))
	set, _, _ := strings.Cut(w.Result().Header.Get("Set-Cookie"), ";")
	return set
}
