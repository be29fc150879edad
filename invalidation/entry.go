package invalidation

import (
	"time"

	"github.com/sojourn-go/sojourn/session"
)

// Row is what the database says about a key: the session or, while the key is
// in a renewal's grace period, its successor.
type Row struct {
	Record session.Record
	Next   session.Key // the successor; zero if there is none
	// Life is what was left of the session or the grace period when the row was
	// read, by the database's clock. A row without life is not cached.
	Life time.Duration
}

// entry is a row in the cache. It never changes, and is small: it has no
// time.Time.
type entry struct {
	key                        session.Key
	userStripe                 uint32
	version                    int64
	created, expires, deadline int64 // nanoseconds since 1970
	until                      Instant
	moment                     uint64 // of the read; see Cache.moment
	user                       string
	data                       []byte
	next                       *session.Key
}

// entryOverhead is what an entry takes besides its user and data: itself, what
// the cache keeps about it, and what the allocator rounds up.
const entryOverhead = 320

func (e *entry) weight() uint32 { return uint32(entryOverhead + len(e.user) + cap(e.data)) }

func newEntry(key session.Key, row Row) *entry {
	rec := row.Record
	e := &entry{key: key, version: rec.Version, user: rec.User, data: rec.Data, userStripe: userStripe(rec.User)}
	if !row.Next.IsZero() {
		e.next = &row.Next
		return e
	}
	e.created, e.expires, e.deadline = rec.Created.UnixNano(), rec.Expires.UnixNano(), rec.Deadline.UnixNano()
	return e
}

func (e *entry) row() Row {
	if e.next != nil {
		return Row{Next: *e.next}
	}
	return Row{Record: e.record()}
}

func (e *entry) record() session.Record {
	return session.Record{
		Key: e.key, Version: e.version, User: e.user, Data: e.data,
		Created: utc(e.created), Expires: utc(e.expires), Deadline: utc(e.deadline),
	}
}

func utc(nano int64) time.Time { return time.Unix(0, nano).UTC() }

// older reports whether other is a later state of the session. Of one version
// the state that expires later is the later one: only a save, which has a new
// version, moves the expiry back.
func (e *entry) older(other *entry) bool {
	if e.version != other.version {
		return e.version < other.version
	}
	return e.expires < other.expires
}

func userStripe(user string) uint32 {
	if user == "" {
		return 0
	}
	return userToken(user).stripe()
}
