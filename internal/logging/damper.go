package logging

import "time"

const (
	burst    = 3               // lines of a kind at first
	interval = 5 * time.Minute // from one to the next, after those
	maxKinds = 32              // that are told apart
)

// Damper holds back what is said again and again, as by something that breaks
// and recovers every few seconds for hours. The zero Damper is ready. It is used
// by one goroutine at a time.
type Damper struct {
	kinds map[string]*said
}

type said struct {
	times int
	last  time.Time
	held  int
}

// Allow reports whether a line of this kind may be written, and how many were
// held back since the last one.
func (d *Damper) Allow(kind string) (held int, ok bool) {
	if d.kinds == nil {
		d.kinds = map[string]*said{}
	}
	s := d.kinds[kind]
	if s == nil {
		if len(d.kinds) >= maxKinds {
			kind = "" // no text of a stranger's fills the memory
		}
		if s = d.kinds[kind]; s == nil {
			s = &said{}
			d.kinds[kind] = s
		}
	}
	if calm := time.Since(s.last); calm >= interval {
		s.times = max(0, s.times-int(calm/interval))
	}
	if s.times >= burst {
		s.held++
		return 0, false
	}
	held, s.held = s.held, 0
	s.times++
	s.last = time.Now()
	return held, true
}
