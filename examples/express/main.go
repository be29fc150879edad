// Command express serves the pages below /go/ of an application that moves from
// Express to Go. Both have the table of connect-pg-simple and the same cookie:
// DATABASE_URL=postgres://localhost/shop SESSION_SECRET='as in Node' go run ./examples/express
//
// In Node: app.use(session({ secret, resave: false, saveUninitialized: false,
// store: new (require('connect-pg-simple')(session))({ pool, createTableIfMissing: true }) }))
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/sojourn-go/sojourn/nodestore"
	"github.com/sojourn-go/sojourn/session"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) (err error) {
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	defer func() { err = errors.Join(err, db.Close()) }()
	store, err := nodestore.New(ctx, db, nodestore.ConnectPGSimple(), nodestore.Options{CreateTable: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(context.Background())) }()
	sessions, err := nodestore.NewExpress(store, nodestore.ExpressOptions{Secrets: session.Secrets(os.Getenv("SESSION_SECRET"))})
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              cmp.Or(os.Getenv("ADDRESS"), "localhost:8080"),
		Handler:           http.NewCrossOriginProtection().Handler(sessions.Handler(pages())),
		ReadHeaderTimeout: 10 * time.Second,
	}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		underWay, stop := context.WithTimeout(context.Background(), 10*time.Second) // requests get so long to end
		defer stop()
		stopped <- server.Shutdown(underWay)
	})()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

func pages() http.Handler {
	mux := http.NewServeMux()
	page := func(pattern string, answer func(context.Context, *nodestore.Session) (string, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s, err := nodestore.FromContext(r.Context())
			if err != nil {
				return // the table is away: the answer is 503
			}
			text, err := answer(r.Context(), s)
			if err != nil {
				log.Print(err)
				http.Error(w, "try again", http.StatusServiceUnavailable)
				return
			}
			fmt.Fprintln(w, text) // the session is saved before the first byte
		})
	}
	page("GET /go/hello", func(_ context.Context, s *nodestore.Session) (string, error) {
		failed := nodestore.Update(s, "visits", func(n int) int { return n + 1 }) // req.session.visits in Node
		visits, err := nodestore.Value[int](s, "visits")
		return fmt.Sprintf("visit %d of %q", visits, s.User()), errors.Join(failed, err)
	})
	page("POST /go/login", func(ctx context.Context, s *nodestore.Session) (string, error) {
		if err := s.Regenerate(ctx); err != nil { // after checking the password
			return "", err
		}
		return "welcome", s.SetPath([]string{"passport", "user"}, "alice") // where passport looks for it
	})
	page("POST /go/logout", func(ctx context.Context, s *nodestore.Session) (string, error) {
		return "bye", s.Destroy(ctx)
	})
	return mux
}
