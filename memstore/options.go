package memstore

import (
	"cmp"
	"fmt"
	"time"
)

// Options are a store's settings. The zero Options work.
type Options struct {
	// Longest is the longest lifetime of a session; 0 means 30 days.
	Longest time.Duration

	// MaxData and MaxUser limit a session's data and user, in bytes; 0 means
	// 1 MiB and 255.
	MaxData, MaxUser int

	// RetireGrace is for how long a dead session's key is remembered after its
	// bucket has passed; 0 means a day. Put with a key that was forgotten
	// creates a session, so no request that puts may take longer.
	RetireGrace time.Duration

	// PruneInterval is the time between two passes of pruning; 0 means a
	// minute. If it is negative, a new store does not prune by itself and
	// StartPruning prunes each minute.
	PruneInterval time.Duration

	// Now is the clock that decides what is live; nil means time.Now. It is
	// called concurrently.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	o.Longest = cmp.Or(o.Longest, 30*24*time.Hour)
	o.MaxData = cmp.Or(o.MaxData, 1<<20)
	o.MaxUser = cmp.Or(o.MaxUser, 255)
	o.RetireGrace = cmp.Or(o.RetireGrace, 24*time.Hour)
	o.PruneInterval = cmp.Or(o.PruneInterval, time.Minute)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func (o Options) validate() error {
	switch {
	case o.Longest < 0:
		return fmt.Errorf("memstore: Options.Longest is %v; it must not be negative", o.Longest)
	case o.MaxData < 0:
		return fmt.Errorf("memstore: Options.MaxData is %d; it must not be negative", o.MaxData)
	case o.MaxUser < 0:
		return fmt.Errorf("memstore: Options.MaxUser is %d; it must not be negative", o.MaxUser)
	case o.RetireGrace < 0:
		return fmt.Errorf("memstore: Options.RetireGrace is %v; it must not be negative", o.RetireGrace)
	}
	return nil
}
