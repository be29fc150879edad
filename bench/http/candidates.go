package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// candidate is a way to keep sessions.
type candidate struct {
	name      string
	stateless bool // it answers everybody the same
	open      func(context.Context, *pgxpool.Pool) (backend, error)
}

var candidates = []candidate{
	{name: "no sessions", stateless: true, open: openNone},
	{name: "Manager + pgstore", open: openManager},
	{name: "scs + pgxstore", open: openSCS},
	{name: "scs + pgxstore, IdleTimeout", open: openSCSIdle},
	{name: "scs + scsstore, IdleTimeout", open: openAdaptedSCS},
}

// The candidates that the others are compared with.
const (
	withoutSessions = 0
	peer            = 3
)

// backend is a candidate at work. The handlers that use it are the same for all.
type backend interface {
	wrap(http.Handler) http.Handler
	// read returns the visitor's user name and theme.
	read(*http.Request) (user, theme string, err error)
	// write changes the theme and returns the user name.
	write(r *http.Request, theme string) (user string, err error)
	// login gives the visitor a session of the user with these values.
	login(w http.ResponseWriter, r *http.Request, user string, values map[string]string) error
	close(context.Context) error
}

const (
	themeKey = "theme"
	light    = "light"
	dark     = "dark"
)

// values is what each session holds: about 600 bytes, the keys included.
func values() map[string]string {
	return map[string]string{
		themeKey:   light,
		"language": "en-GB",
		"return":   "/catalogue/garden/tools?sort=price&page=3",
		"basket":   strings.Repeat("4006381333931:02;", 18),
		"seen":     strings.Repeat("9783161484100,", 14),
	}
}

// answer is what every handler answers with.
func answer(user, theme string) string { return user + " " + theme + "\n" }

// fail tells the client, which ends the measurement, why.
func fail(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

func handler(b backend) http.Handler {
	reply := func(w http.ResponseWriter, r *http.Request, user, theme string, err error) {
		if err != nil {
			fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(answer(user, theme))) // the client notices
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /read", func(w http.ResponseWriter, r *http.Request) {
		user, theme, err := b.read(r)
		reply(w, r, user, theme, err)
	})
	mux.HandleFunc("POST /write", func(w http.ResponseWriter, r *http.Request) {
		theme := r.URL.Query().Get(themeKey)
		user, err := b.write(r, theme)
		reply(w, r, user, theme, err)
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		user := r.URL.Query().Get("user")
		reply(w, r, user, light, b.login(w, r, user, values()))
	})
	return b.wrap(mux)
}
