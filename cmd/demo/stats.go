package main

import (
	"context"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sojourn-go/sojourn/session"
)

const statsLimit = time.Second

// nodeStats is what a node knows of itself and of who leads.
type nodeStats struct {
	Node    string        `json:"node"`
	PID     int           `json:"pid"`
	Store   string        `json:"store"`             // as for -store
	Memory  bool          `json:"memory"`            // it answers reads from its memory
	Leader  *string       `json:"leader,omitempty"`  // empty: nobody; "unknown": the database does not say; not there: it is not asked
	Queries *queryCounts  `json:"queries,omitempty"` // not there if they are not counted
	Stats   session.Stats `json:"stats"`
}

// stats needs no session, and so reads none.
func (s *server) stats(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), statsLimit)
	defer cancel()
	st := nodeStats{Node: s.conf.Name, PID: os.Getpid(), Store: s.conf.Store, Memory: s.memory != nil, Stats: s.store.Stats()}
	st.Stats.MaintainedBy = s.shortName(st.Stats.MaintainedBy)
	if s.queries != nil {
		counts := s.queries()
		st.Queries = &counts
	}
	if s.leader != nil {
		name, err := s.leader(ctx)
		if err != nil {
			name = "unknown"
		}
		name = s.shortName(name)
		st.Leader = &name
	}
	send(w, http.StatusOK, st)
}

// shortName leaves out what is the same for all nodes of the demo.
func (s *server) shortName(node string) string { return strings.TrimPrefix(node, s.conf.Run+" ") }
