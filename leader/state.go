package leader

import (
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/logging"
)

// State is what one process knows about its place in the election.
type State struct {
	// Leading is true while this process leads.
	Leading bool
	// Connected is true while a session is open that polls or holds the lock.
	// While it is false this process cannot become the leader.
	Connected bool
	// Term is the number of the newest term of this process, 0 before the first.
	Term int64
	// Since is when Leading or Connected last changed; zero before the first.
	Since time.Time
	// Failures counts all failures of this Run: sessions that did not open or
	// broke, lost terms, errors of the work.
	Failures int64
	// Err is the newest failure, kept after a recovery; nil if there was none.
	Err error
}

// reporter turns the course of an election into states and log lines. It is used
// by one goroutine at a time.
type reporter struct {
	log      *zap.Logger
	onChange func(State)
	state    State

	// competing and terms are what was logged last and still lasts: of the
	// ability to compete, and of the terms themselves. They fail and recover
	// independently.
	competing, terms failureText

	damper logging.Damper // of failures that come again after they were over
	damped bool           // the newest one was held back, so its end is too
}

// failureText is the text of a lasting failure, "" when all is well. Digits are left
// out: local ports and times differ between failures that are the same.
type failureText string

func textOf(err error) failureText {
	return failureText(strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, err.Error()))
}

func newReporter(opts Options) *reporter {
	return &reporter{log: opts.Logger, onChange: opts.OnChange}
}

func (r *reporter) following() {
	if r.state.Connected {
		return
	}
	r.competing = ""
	r.change("leader: following")
	r.place(true, false)
}

func (r *reporter) disconnected() {
	if r.state.Connected {
		r.place(false, false)
	}
}

func (r *reporter) cannotCompete(err error) {
	r.problem(&r.competing, err, "leader: cannot compete")
	r.failure(err)
	r.place(false, false)
}

func (r *reporter) leading(term int64) {
	r.competing = ""
	r.state.Term = term
	r.change("leader: leading", zap.Int64("term", term))
	r.place(true, true)
}

// lost is called while work may still run.
func (r *reporter) lost(term int64, err error) {
	r.problem(&r.terms, err, "leader: lost", zap.Int64("term", term))
	r.failure(err)
	r.place(false, false)
}

// stuck is called when the lock is taken from a work that does not stop.
func (r *reporter) stuck(term int64) {
	r.log.Warn("leader: work does not stop, its connection is cut", zap.Int64("term", term))
	r.place(false, false)
}

// forgetTerms forgets the failures of earlier terms.
func (r *reporter) forgetTerms() { r.terms = "" }

// ended is called when work has returned, err being its failure.
func (r *reporter) ended(term int64, err error) {
	if err != nil {
		r.problem(&r.terms, err, "leader: work failed", zap.Int64("term", term))
		r.failure(err)
	}
	if r.state.Leading {
		r.change("leader: resigned", zap.Int64("term", term))
	}
	if r.state.Leading || err != nil {
		r.place(false, false)
	}
}

func (r *reporter) closeFailed(err error) {
	r.log.Warn("leader: the session was not ended in good order", zap.Error(err))
}

func (r *reporter) failure(err error) {
	r.state.Failures++
	r.state.Err = err
}

func (r *reporter) place(connected, leading bool) {
	if r.state.Connected != connected || r.state.Leading != leading {
		r.state.Connected, r.state.Leading, r.state.Since = connected, leading, time.Now()
	}
	r.onChange(r.state)
}

// problem logs a failure, quietly while the same one lasts, and now and then
// when it is over and comes again.
func (r *reporter) problem(lasting *failureText, err error, msg string, fields ...zap.Field) {
	text := textOf(err)
	level := zap.DebugLevel
	if *lasting != text {
		*lasting = text
		held, ok := r.damper.Allow(msg + ": " + string(text))
		if r.damped = !ok; ok {
			level = zap.WarnLevel
		}
		if held > 0 {
			fields = append(fields, zap.Int("repeated", held))
		}
	}
	r.log.Log(level, msg, append(fields, zap.Error(err))...)
}

// change logs the course of a term, quietly while terms keep failing.
func (r *reporter) change(msg string, fields ...zap.Field) {
	level := zap.InfoLevel
	if r.terms != "" || r.damped {
		level = zap.DebugLevel
	}
	r.log.Log(level, msg, fields...)
}
