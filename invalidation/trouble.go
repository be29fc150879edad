package invalidation

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

// trouble reports what fails again and again, also if it works in between: each
// kind of failure once, and then only counts it. It is said again after some
// quiet time, and now and then while it lasts. A trouble is used by one goroutine.
type trouble struct {
	log         *zap.Logger
	onError     func(error)
	begins, end string // end is not said if it is empty
	failures    map[string]*failure
	told        bool // since the last end
}

// failure is one kind of it.
type failure struct {
	last, said time.Time
	unsaid     int // how often it happened since
}

const (
	quietTime = 10 * time.Minute
	remindIn  = time.Hour
)

func newTrouble(opts ListenOptions, begins, end string) *trouble {
	return &trouble{log: opts.Logger, onError: opts.OnError, begins: begins, end: end, failures: map[string]*failure{}}
}

func (t *trouble) failed(err error) {
	kind := kindOf(err)
	f, now := t.failures[kind], time.Now()
	if f == nil {
		f = &failure{}
		t.failures[kind] = f
	}
	quiet, since := now.Sub(f.last), now.Sub(f.said)
	f.last = now
	if quiet < quietTime && since < remindIn {
		f.unsaid++
		t.log.Debug(t.begins, zap.Error(err))
		return
	}
	t.log.Warn(t.begins, zap.Error(err), zap.Int("times before, not logged", f.unsaid))
	f.said, f.unsaid, t.told = now, 0, true
	t.onError(err)
}

func (t *trouble) over() {
	if t.told && t.end != "" {
		t.log.Info(t.end)
	}
	t.told = false
}

// kindOf tells apart what somebody would have to know both of. Texts do not:
// they contain ports and times.
func kindOf(err error) string {
	for _, sentinel := range []error{ErrLapsed, ErrPooled, ErrOtherServer, ErrOtherDatabase, ErrNoEcho} {
		if errors.Is(err, sentinel) {
			return sentinel.Error()
		}
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}
