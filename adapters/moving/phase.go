// Package moving says how the adapters take over the sessions of an application that
// changes its store, so that nobody is logged out. An adapter that is given the old
// store, in its Options, reads from both places.
//
// Nodes of neighbouring phases may run at the same time, for as long as it takes:
//
//	the old program  <->  Beside  <->  Move
//	the old program  <->  Return  <->  Beside
//
// So a rollout is two: first Beside replaces the old program on all nodes, then Move
// replaces Beside. Each can be undone as it was done. Who wants to go back to the old
// program when sessions have moved rolls out Beside, then Return, and then the old program.
// The old program beside Move, or Return beside Move, loses sessions.
package moving

import "fmt"

// Phase is what becomes of a session when it is used.
type Phase int

const (
	// Beside leaves sessions where they are and begins new ones in the old store, where
	// the old program finds them. A session that a node in phase Move has moved is
	// served from its new place. What ends on a node in phase Beside stays dead on all
	// nodes that know both places.
	Beside Phase = iota
	// Move takes a session out of the old store when it is first used, and begins new
	// ones in the new store. The old program does not find them any more.
	Move
	// Return gives a session back to the old store when it is used, and begins new ones
	// there.
	Return
)

var phaseNames = [...]string{Beside: "Beside", Move: "Move", Return: "Return"}

// String returns the phase's name.
func (p Phase) String() string {
	if p < 0 || int(p) >= len(phaseNames) {
		return fmt.Sprintf("Phase(%d)", int(p))
	}
	return phaseNames[p]
}

// Progress counts what a node has done since it began. How many sessions are still in
// the old store is for its database to say: docs/migrating.md has the query of each.
type Progress struct {
	// Moved is how many sessions the node has taken out of the old store, Returned how
	// many it has given back.
	Moved, Returned uint64
}
