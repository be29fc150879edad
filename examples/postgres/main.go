// Command postgres is a web application for any number of nodes, with its
// sessions in Postgres: DATABASE_URL=postgres://localhost/shop go run ./examples/postgres
//
// The cookie is Secure. Chrome and Firefox take it over http://localhost too;
// Safari does not, and needs Options.Cookie.Insecure while there is no HTTPS.
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

	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore"
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
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	pgstore.ConfigurePool(config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := migrations.UpFromPool(ctx, pool, migrations.Config{}); err != nil {
		return err
	}
	store, err := pgstore.New(ctx, pool, pgstore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(context.Background())) }()
	sessions, err := session.NewManager(store, session.Options{})
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              cmp.Or(os.Getenv("ADDRESS"), "localhost:8080"),
		Handler:           http.NewCrossOriginProtection().Handler(sessions.Handler(pages(sessions))),
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

func pages(sessions *session.Manager) http.Handler {
	mux := http.NewServeMux()
	page := func(pattern string, answer func(context.Context, *session.Session) (string, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s, err := sessions.Session(r.Context())
			if err != nil {
				return // the store is away: the manager answers 503
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
	page("GET /{$}", func(_ context.Context, s *session.Session) (string, error) {
		failed := session.Update(s, "visits", func(n int) int { return n + 1 }) // others may count at the same time
		visits, err := session.Get[int](s, "visits")
		return fmt.Sprintf("visit %d of %q", visits, s.User()), errors.Join(failed, err)
	})
	page("POST /login", func(ctx context.Context, s *session.Session) (string, error) {
		return "welcome", s.Login(ctx, "alice", session.Login{}) // after checking the password; the ID is a new one
	})
	page("POST /logout", func(ctx context.Context, s *session.Session) (string, error) {
		return "bye", s.Logout(ctx)
	})
	page("POST /logout-everywhere", func(ctx context.Context, s *session.Session) (string, error) {
		if s.User() == "" {
			return "nobody is logged in", nil
		}
		ended, err := sessions.RevokeUser(ctx, s.User())
		return fmt.Sprintf("ended %d sessions", ended), err
	})
	return mux
}
