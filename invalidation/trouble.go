package invalidation

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
)

// trouble reports what fails again and again: each kind of failure once, until
// it is over. It is used by one goroutine.
type trouble struct {
	log         *zap.Logger
	onError     func(error)
	begins, end string
	told        map[string]bool // the kinds of failure
}

func newTrouble(opts ListenOptions, begins, end string) *trouble {
	return &trouble{log: opts.Logger, onError: opts.OnError, begins: begins, end: end, told: map[string]bool{}}
}

func (t *trouble) failed(err error) {
	kind := kindOf(err)
	if t.told[kind] {
		t.log.Debug(t.begins, zap.Error(err))
		return
	}
	t.told[kind] = true
	t.log.Warn(t.begins, zap.Error(err))
	t.onError(err)
}

func (t *trouble) over() {
	if len(t.told) > 0 {
		clear(t.told)
		t.log.Info(t.end)
	}
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
