package leader

import (
	"cmp"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/logging"
)

// shortest and longest bound a time between two statements. With less a crowd
// of followers is a load of its own, and a server is told to wait for twice as
// long.
const (
	shortest = 10 * time.Millisecond
	longest  = 24 * time.Hour
)

// Options tunes [Run]. The zero value works; a zero field takes its default, and
// a negative one, or one of more than a day, is an error.
type Options struct {
	// Poll is how often a follower tries to take the lock, default 1s, at least
	// 10ms. Each wait is drawn from [Poll/2, Poll), so that followers spread out
	// and a lock that was given back is taken again within Poll.
	Poll time.Duration

	// Verify is how often the leader proves that it still holds the lock,
	// default 2s, at least 10ms; drawn from [Verify/2, Verify). A lock that was
	// lost is noticed within Verify plus Timeout while no [Term.Do] runs.
	Verify time.Duration

	// Timeout limits one answer of the server: one attempt to lock, one
	// verification, one goodbye. Default 3s.
	Timeout time.Duration

	// ConnectTimeout limits the opening of one session. Default 10s.
	ConnectTimeout time.Duration

	// MaxBackoff caps the wait after repeated failures, which starts at Poll
	// and doubles. Default 15s. A term that lasted longer than MaxBackoff
	// clears the failures before it.
	MaxBackoff time.Duration

	// Logger gets one line per change and one per failure; a failure that repeats
	// is logged at debug level. If it is nil, warnings and errors go to the default
	// logger of log/slog; zap.NewNop() silences them.
	Logger *zap.Logger

	// OnChange is told every change of the [State], in order and one call at a
	// time, by goroutines of Run, which wait for it: it must not block. Nil: not
	// told.
	OnChange func(State)
}

func (o Options) withDefaults() Options {
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.Verify = cmp.Or(o.Verify, 2*time.Second)
	o.Timeout = cmp.Or(o.Timeout, 3*time.Second)
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 10*time.Second)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, 15*time.Second)
	o.Logger = logging.Or(o.Logger)
	if o.OnChange == nil {
		o.OnChange = func(State) {}
	}
	return o
}

// silence is twice as long as a session is silent from one statement to the next.
func (o Options) silence() time.Duration {
	return max(MinSilence, 2*(max(o.Poll, o.Verify)+o.Timeout))
}

func (o Options) validate() error {
	for _, f := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"Poll", o.Poll, shortest},
		{"Verify", o.Verify, shortest},
		{"Timeout", o.Timeout, time.Millisecond},
		{"ConnectTimeout", o.ConnectTimeout, time.Millisecond},
		{"MaxBackoff", o.MaxBackoff, shortest},
	} {
		if f.value < f.least || f.value > longest {
			return fmt.Errorf("leader: Options.%s is %v; it must be from %v to %v", f.name, f.value, f.least, longest)
		}
	}
	return nil
}
