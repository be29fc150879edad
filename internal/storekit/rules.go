// Package storekit has the rules that all stores share, once each. They say
// what a session may be and how it is kept: times in whole microseconds,
// versions that nobody can foresee. They say which errors are refusals, what a
// lost answer means, what options may be, and when to prune.
package storekit

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sojourn-go/sojourn/session"
)

// MaxLifetime is the most that Limits.Longest may be: ten years.
const MaxLifetime = 87600 * time.Hour

// ClockSlack is how far beyond the longest lifetime a deadline may lie: a node
// knows the database's time only as well as the network lets it.
const ClockSlack = time.Minute

// ClockError is by how much a node may be wrong about the database's time without
// anything being amiss: the answer that told it may have been slow.
const ClockError = 10 * time.Second

// Limits are what a store takes.
type Limits struct {
	// MaxData and MaxUser are the longest data and user in bytes, of what is new.
	MaxData, MaxUser int
	// MostUser is the longest user that any MaxUser can have allowed.
	MostUser int
	// Longest is the longest lifetime of a session.
	Longest time.Duration
	// Slack is how much further ahead a deadline may lie: a node knows the
	// store's clock only about.
	Slack time.Duration
}

// Content checks what is written whatever the operation: the key, the data and
// the user. It is session.ErrInvalid or session.ErrTooLarge and names the field.
func (l Limits) Content(rec session.Record) error {
	if len(rec.Data) > l.MaxData {
		return tooLarge("Record.Data", len(rec.Data), l.MaxData)
	}
	return cmp.Or(Key("Record.Key", rec.Key), text("Record.User", rec.User, l.MaxUser))
}

// Saved is Content for a save, whose user is the session's.
func (l Limits) Saved(rec session.Record) error {
	l.MaxUser = l.MostUser
	return l.Content(rec)
}

// User checks the name of a user who may have sessions. It must not be empty.
func (l Limits) User(field, user string) error {
	return named(field, user, l.MostUser)
}

// Page checks a user whose sessions are listed, and how many at once.
func (l Limits) Page(user string, most int) error {
	if most < 1 {
		return Invalid("most is %d; it must be 1 or more", most)
	}
	return l.User("user", user)
}

// UserLimit checks a limit and whose it is.
func (l Limits) UserLimit(user string, limit session.UserLimit) error {
	if limit.Max < 0 {
		return Invalid("UserLimit.Max is %d; it must not be negative", limit.Max)
	}
	return named("Record.User", user, l.MaxUser)
}

func named(field, user string, most int) error {
	if user == "" {
		return Invalid("%s is empty", field)
	}
	return text(field, user, most)
}

func text(field, user string, most int) error {
	switch {
	case len(user) > most:
		return tooLarge(field, len(user), most)
	case !utf8.ValidString(user):
		return Invalid("%s is not UTF-8", field)
	}
	if at := strings.IndexByte(user, 0); at >= 0 {
		return Invalid("%s has a NUL at byte %d", field, at)
	}
	return nil
}

// New checks a session that is to be created, by a clock that shows now. It
// returns the session as it is kept: with an expiry, and times as Deadline and
// Expiry make them. Its Data is the caller's, its Version and Created stay as
// they were.
//
// Besides the errors of Content, it is session.ErrInvalid if the key has
// another bucket than the deadline, and else what InTime says.
func (l Limits) New(rec session.Record, now time.Time) (session.Record, error) {
	return l.made(rec, now, Deadline, Expiry)
}

// PutDeadline is the deadline of a session that is put without one, by a clock that
// shows now: the longest lifetime, or the end of the bucket that the key tells.
func (l Limits) PutDeadline(key session.Key, now time.Time) time.Time {
	latest := now.Add(l.Longest)
	if key.Bucket != 0 && key.Bucket != session.BucketOf(latest) {
		return time.Unix(int64(key.Bucket)*3600, 0).UTC()
	}
	return latest
}

// NewExact is New for a store that keeps times as they are.
func (l Limits) NewExact(rec session.Record, now time.Time) (session.Record, error) {
	return l.made(rec, now, Exact, Exact)
}

func (l Limits) made(rec session.Record, now time.Time, deadline, expiry func(time.Time) time.Time) (session.Record, error) {
	if err := l.Content(rec); err != nil {
		return rec, err
	}
	if rec.Deadline.IsZero() {
		return rec, fmt.Errorf("%w: Record.Deadline is missing", session.ErrDeadline)
	}
	bucket := session.BucketOf(rec.Deadline)
	rec.Deadline = deadline(rec.Deadline)
	if rec.Expires.IsZero() {
		rec.Expires = rec.Deadline
	}
	rec.Expires = expiry(rec.Expires)
	if rec.Key.Bucket != 0 && rec.Key.Bucket != bucket {
		return rec, Invalid("Record.Key has bucket %d; that of its deadline is %d", rec.Key.Bucket, bucket)
	}
	return rec, l.InTime(rec, now)
}

// InTime checks the deadline and the expiry of a session that New has made, by
// a clock that shows now. It is session.ErrDeadline when one of them has passed
// or lies too far ahead. Stores ask again once they hold the lock: the wait for
// it may have outlasted the session.
func (l Limits) InTime(rec session.Record, now time.Time) error {
	late := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", session.ErrDeadline, fmt.Sprintf(format, args...))
	}
	switch {
	case !rec.Deadline.After(now):
		return late("Record.Deadline passed %v ago", now.Sub(rec.Deadline).Round(time.Millisecond))
	case rec.Deadline.After(now.Add(l.Longest + l.Slack)):
		return late("Record.Deadline is %v away; the longest lifetime is %v", rec.Deadline.Sub(now).Round(time.Second), l.Longest)
	case !rec.Expires.After(now):
		return late("Record.Expires passed %v ago", now.Sub(rec.Expires).Round(time.Millisecond))
	case rec.Expires.After(rec.Deadline):
		return late("Record.Expires is %v after Record.Deadline", rec.Expires.Sub(rec.Deadline))
	}
	return nil
}

// Replacing is l for a session that replaces one with that deadline: it may be
// as long, also where the longest lifetime is a shorter one by now.
func (l Limits) Replacing(deadline, now time.Time) Limits {
	l.Longest = max(l.Longest, deadline.Sub(now))
	return l
}

// ReplacingAny is l for a session that replaces one of which nothing is known
// yet.
func (l Limits) ReplacingAny() Limits {
	l.Longest = MaxLifetime
	return l
}

// Possible reports whether a session of that key may exist, whatever the limits
// and the clocks are or were. A store need not ask its database about another
// one.
func Possible(key session.Key) bool {
	return key.Hash != [sha256.Size]byte{} && key.Bucket >= 0
}

// Key is session.ErrInvalid for the zero Key.
func Key(field string, key session.Key) error {
	if key.IsZero() {
		return Invalid("%s is zero", field)
	}
	return nil
}

// Grace is session.ErrInvalid unless grace is from 0 to session.MaxGrace.
func Grace(grace time.Duration) error {
	if grace < 0 || grace > session.MaxGrace {
		return Invalid("grace is %v; it must be from 0 to %v", grace, session.MaxGrace)
	}
	return nil
}

// Name checks a text that a server is told: of at most that many bytes, UTF-8 and
// without NUL.
func Name(field, name string, most int) error {
	switch {
	case len(name) > most:
		return fmt.Errorf("%s has %d bytes; the limit is %d", field, len(name), most)
	case !utf8.ValidString(name):
		return fmt.Errorf("%s is not UTF-8", field)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("%s has a NUL at byte %d", field, strings.IndexByte(name, 0))
	}
	return nil
}

// MaxNodeName is the limit of a node's name in bytes.
const MaxNodeName = 255
