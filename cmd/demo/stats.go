package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/session"
)

const statsLimit = time.Second

// nodeStats is what a node knows of itself and of who leads.
type nodeStats struct {
	Node    string        `json:"node"`
	PID     int           `json:"pid"`
	Leader  string        `json:"leader"` // empty: nobody; "unknown": the database does not say
	Queries queryCounts   `json:"queries"`
	Stats   session.Stats `json:"stats"`
}

// stats needs no session, and so reads none.
func (s *server) stats(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(uncounted(r.Context()), statsLimit)
	defer cancel()
	st := nodeStats{Node: s.conf.Name, PID: os.Getpid(), Queries: s.queries.counts(), Stats: s.store.Stats()}
	st.Stats.MaintainedBy = s.shortName(st.Stats.MaintainedBy)
	name, err := s.store.Leader(ctx)
	switch {
	case err == nil:
		st.Leader = s.shortName(name)
	case !errors.Is(err, leader.ErrNoLeader):
		st.Leader = "unknown"
	}
	send(w, http.StatusOK, st)
}

// shortName leaves out what is the same for all nodes of the demo.
func (s *server) shortName(node string) string { return strings.TrimPrefix(node, s.conf.Run+" ") }
