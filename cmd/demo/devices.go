package main

import (
	"bytes"
	"context"
	"html/template"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/session"
)

// devicesPath is the page that works without scripts: it is where forms lead.
const devicesPath = "/devices"

func parseDevices() (*template.Template, error) {
	return template.New("devices.html").Funcs(template.FuncMap{
		"clock": func(t time.Time) string { return t.Format("2 Jan 15:04") },
	}).ParseFS(page, "page/devices.html")
}

// devicesView is what the page shows.
type devicesView struct {
	Node     string
	Trouble  string   // why what was asked for was not done
	Flashes  []string // what was done
	User     string   // empty: nobody is logged in
	Sessions []session.Info
}

// fromPage reports whether a browser wants a page, and not our script or curl.
func fromPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// tell has the next page say something, once. Others have the answer itself.
func tell(r *http.Request, sess *session.Session, text string) error {
	if !fromPage(r) || sess.User() == "" { // who has just ended his session needs no new one
		return nil
	}
	return sess.Flash(text)
}

// devices shows the sessions of the user, or how to log in.
func (s *server) devices(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	sess, err := session.FromContext(ctx)
	if err != nil {
		return // the Manager answers, through fail
	}
	v := devicesView{User: sess.User()}
	if v.User != "" {
		if v.Sessions, err = s.manager.Sessions(ctx, v.User); err == nil {
			v.Flashes, err = session.Flashes[string](sess)
		}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, http.StatusOK, v)
}

func (s *server) show(w http.ResponseWriter, status int, v devicesView) {
	v.Node = s.conf.Name
	var b bytes.Buffer
	if err := s.page.Execute(&b, v); err != nil {
		s.log.Error("the page of devices", zap.Error(err))
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the browser may be gone
}

// What a User-Agent has in it and how people call that. Each has the marks of
// some below it, too.
func programs() [][2]string {
	return [][2]string{
		{"Edg", "Edge"}, {"OPR", "Opera"}, {"Firefox", "Firefox"}, {"FxiOS", "Firefox"},
		{"Chrome", "Chrome"}, {"CriOS", "Chrome"}, {"Safari", "Safari"},
	}
}

func systems() [][2]string {
	return [][2]string{
		{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"},
		{"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"},
	}
}

// deviceOf is a User-Agent in short: "Firefox on Linux", "curl".
func deviceOf(agent string) string {
	const enough = 40
	find := func(names [][2]string) string {
		for _, n := range names {
			if strings.Contains(agent, n[0]) {
				return n[1]
			}
		}
		return ""
	}
	program, system := find(programs()), find(systems())
	if program == "" {
		program, _, _ = strings.Cut(agent, "/")
		program = strings.ToValidUTF8(program[:min(len(program), enough)], "")
	}
	switch {
	case program == "":
		return "a program"
	case system == "":
		return program
	}
	return program + " on " + system
}
