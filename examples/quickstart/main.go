// Command quickstart is the program of the README.
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

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/pgstore"
	"github.com/sojourn-go/sojourn/session"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := serve(ctx); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) error {
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
	if err := migrations.UpFromPool(ctx, pool, migrations.Config{}); err != nil { // makes the tables
		return err
	}
	store, err := pgstore.New(ctx, pool, pgstore.Options{})
	if err != nil {
		return err
	}
	defer store.Close(context.Background())
	sessions, err := session.NewManager(store, session.Options{})
	if err != nil {
		return err
	}

	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		var visits int
		s, err := session.FromContext(r.Context())
		if err == nil {
			err = session.Update(s, "visits", func(n int) int { visits = n + 1; return visits })
		}
		answer(w, err, func() string { return fmt.Sprintf("visit %d of %q", visits, s.User()) })
	})
	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		s, err := session.FromContext(r.Context())
		if err == nil {
			err = s.Login(r.Context(), "alice", session.Login{}) // after checking the password
		}
		answer(w, err, func() string { return "welcome" })
	})
	http.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		s, err := session.FromContext(r.Context())
		if err == nil {
			err = s.Logout(r.Context())
		}
		answer(w, err, func() string { return "bye" })
	})

	server := &http.Server{
		Addr:    cmp.Or(os.Getenv("ADDRESS"), "localhost:8080"),
		Handler: http.NewCrossOriginProtection().Handler(sessions.Handler(http.DefaultServeMux)),
	}
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answer(w http.ResponseWriter, err error, text func() string) {
	if err != nil {
		http.Error(w, "try again", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, text()) // the session is saved before the first byte
}
