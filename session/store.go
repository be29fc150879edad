package session

import (
	"context"
	"iter"
	"time"
)

// Record is a session as a store holds it. All times are UTC and have the
// store's precision: deadlines are rounded up to it, so that the bucket stays
// right.
type Record struct {
	// Key names the session. What is read or written by a key comes back with
	// that very key, Bucket 0 included. Only a Get with a renewed key in its
	// grace period returns another key, the successor's. In listings, and from
	// that Get, a foreign session's key may have its bucket filled in; such a
	// key names the same session.
	Key Key
	// Version is greater than 0. Each Save and Put changes it to a greater one
	// that nobody can foresee. Create, and a Put that creates, begin with any,
	// whatever they are given. No two writes to a session give it the same,
	// even if a crash of the database has undone the first of them after others
	// had read it. There are versions for 2^32 writes to a session, renewals of
	// it included.
	Version int64
	// Created is when the session began for its present user, by the store's
	// clock. Stores ignore it in what they are given.
	Created time.Time
	// Expires is the end of the idle timeout. Zero means: in Create, Put and
	// Renew the deadline; in Save no change.
	Expires time.Time
	// Deadline is the absolute end, fixed when the session is created.
	Deadline time.Time
	// User is whose session it is; empty where nobody has logged in. It is
	// UTF-8 without NUL.
	User string
	// Data is the application's, opaque to the store; nil and empty are the
	// same. Data that a store returns must not be modified. A store does not
	// keep the Data that it is given.
	Data []byte
}

// Store keeps sessions. All methods may be called concurrently.
//
// Every method fails with the context's error when ctx ends first, and with
// ErrClosed after Close. A write that was under way by then may have
// happened: its error then is ErrUnknown as well.
//
// Arguments are checked first. Data over the limit or a user over it is
// ErrTooLarge. A user that is not UTF-8 or has a NUL, a negative duration or
// count and, in a write, the zero Key are ErrInvalid. Any other key that no
// session can have is like an unknown one. Where several errors apply, any of
// them is returned.
//
// No setting and no clock hides a session. One that was created under a longer
// lifetime or larger limits, or before a clock was set, is read and ended as
// any other. Limits count for what is written.
//
// A write that fails has changed nothing, unless it is ErrUnknown. No error's
// text has data in it.
type Store interface {
	// Get returns the live session of key, or of its successor while key is in
	// a renewal's grace period. It is ErrNotFound when there is none. If the
	// store is an Explainer, FateOf of the error then is what Fate would say.
	Get(ctx context.Context, key Key) (Record, error)

	// Create adds a session and returns it with its Version and Created. The
	// bucket of its key must be 0 or the deadline's, else the error is
	// ErrInvalid. It is ErrExists when the key was used before, even if that
	// session is dead, and ErrDeadline when the deadline or expiry is out of
	// range; a zero deadline is. The store's Now plus its longest lifetime is
	// in range.
	//
	// A store may forget a dead session once its bucket has passed, so that its
	// key is refused because of the deadline.
	Create(ctx context.Context, rec Record) (Record, error)

	// Save writes the data of a live session whose version is still
	// rec.Version. If rec.Expires is not zero, it moves the expiry, to
	// min(rec.Expires, deadline); an expiry that has passed ends the session.
	// It returns the session with its new Version. Where Now was wrong, an
	// expiry that had not passed by it is ErrDeadline: see Clock.
	//
	// Save fails with ErrConflict when the version is another one, or the key
	// was renewed and is in its grace period. It fails with ErrUserChanged when
	// rec.User is not the session's, empty or not. It fails with ErrNotFound
	// when there is no such live session: Save never creates one. Created,
	// Deadline and User never change; rec.Created and rec.Deadline are ignored.
	Save(ctx context.Context, rec Record) (Record, error)

	// Touch moves the expiry of a live session forward, to
	// min(expires, deadline), and returns the expiry in force, which may be
	// later than that. It never moves it back, which is no error, and does not
	// change the version. It is ErrNotFound when there is no such live session; a renewed key is
	// no longer one, in its grace period too.
	Touch(ctx context.Context, key Key, expires time.Time) (time.Time, error)

	// Renew replaces the live session old, whose version must still be
	// rec.Version, by rec, in one transaction. The new session gets rec's key,
	// data, user, expiry and deadline, and a version after rec.Version; the old
	// one is dead at once. The grace period is from 0 to MaxGrace, and ends
	// with old's deadline at the latest. In it Get with the old key returns the
	// new session. If that was renewed too, Get follows it while it is in its
	// own grace period. Created is kept if the user stays the same.
	//
	// The deadline may be as far ahead as old's, even if that is further than
	// the longest lifetime.
	//
	// Renew fails with ErrNotFound when old is not live, and with ErrConflict
	// when old has another version or was renewed and is in its grace period.
	// It fails with ErrInvalid when grace is out of range, and with ErrExists
	// when rec has the same key as old. Otherwise it fails like Create. When it
	// fails, old stays as it was.
	Renew(ctx context.Context, old Key, rec Record, grace time.Duration) (Record, error)

	// Destroy ends the sessions of keys and returns how many of them were live.
	// A renewed key, in its grace period or later, stands for the session it
	// was renewed to, however often that was renewed. A session is counted
	// once, however many of the keys stand for it. Unknown and dead keys are no
	// error, nor is it to pass none. When it returns nil, all are dead. A key
	// whose own deadline has passed need not stand for another session any
	// more.
	Destroy(ctx context.Context, keys ...Key) (int64, error)

	// Close lets writes under way finish, stops what the store runs in the
	// background and waits for it, until ctx ends. Then it returns ctx's error
	// and the store is closed all the same. It may be called again, and
	// concurrently.
	Close(ctx context.Context) error
}

// MaxGrace is the longest grace period of a Renew.
const MaxGrace = time.Hour

// The interfaces below are optional. Look for them once, with a type
// assertion, when the store is handed over.

// Clock is a store that tells the time by which it decides what is live.
// Callers that compute deadlines and expiries from it need no exact clock of
// their own. Both methods ask nobody, never block, and work on a closed store
// too.
//
// A store that keeps an estimate of another machine's clock corrects it before
// it says ErrDeadline. A caller that computed the times from Now may do so once
// more.
type Clock interface {
	// Now returns the store's time in UTC, as well as this node knows it.
	Now() time.Time
	// Longest returns the longest lifetime of a session that is created now, as
	// well as this node knows it.
	Longest() time.Duration
}

// DataLimiter is a store that tells how much data a session can have, so that a
// Manager can refuse what would be too much before it is saved.
type DataLimiter interface {
	// MaxData returns the most bytes of Record.Data. It is the same for as long
	// as the store lasts.
	MaxData() int
}

// Putter is a store for middleware that knows no versions.
type Putter interface {
	// Put creates the session or replaces the data of the live one. If
	// rec.Expires is not zero, it moves the expiry, in either direction up to
	// the deadline; an expiry that has passed ends the session. rec.Deadline
	// counts for a new session only; zero means the longest lifetime, or the end of
	// the bucket that the key tells. A new
	// session's expiry is capped at the deadline too; one that has passed is
	// ErrDeadline and creates nothing. A dead session of that key wins, even if
	// it is renewed and in its grace period: Put then is ErrNotFound. rec.User
	// may be empty, which keeps the session's. A non-empty rec.User that
	// differs from the session's user is ErrUserChanged, also for a session
	// without one. rec.Version is ignored.
	Put(ctx context.Context, rec Record) (Record, error)
}

// Lister is a store that can tell what it holds. A session that is created or
// ended while a listing runs may or may not be part of it. Every other session
// is, once, also if it is touched or saved meanwhile. The loop may call the
// store. In its grace period a renewed key is not listed, its successor is.
type Lister interface {
	// Len returns how many sessions are live.
	Len(ctx context.Context) (int64, error)
	// Keys lists the keys of the live sessions. It ends after an error, which
	// comes with the zero Key.
	Keys(ctx context.Context) iter.Seq2[Key, error]
	// All lists the live sessions. It ends after an error, which comes with
	// the zero Record.
	All(ctx context.Context) iter.Seq2[Record, error]
}

// Clearer is a store that can end all sessions.
type Clearer interface {
	// Clear ends every session that was created before the call, and what it
	// is renewed to meanwhile, and returns how many it ended. Sessions that are
	// created meanwhile may be ended too.
	Clear(ctx context.Context) (int64, error)
}

// UserLimit says how many live sessions a user may have. The zero UserLimit is
// no limit.
type UserLimit struct {
	// Max is the number of sessions including the new one; 0 means no limit.
	Max int
	// Evict ends the sessions that were created first until the new one fits.
	// Without it the new one is refused with ErrUserLimit.
	Evict bool
}

// UserIndex is a store that knows sessions by their user. A user is never
// empty here: that is ErrInvalid. Otherwise it is checked as in Create where it
// gets a session, and may be as long as any setting allows where it has some.
type UserIndex interface {
	// ListUser returns up to most of the live sessions of user, those created first
	// first. If after is not the zero Record, these are the ones that follow it in
	// that order: pass the last one of a page to get the next, whatever has become
	// of it. Fewer than most are the last ones. Nothing is held between two pages:
	// a session that gets another key meanwhile, or begins, may be missed. It is
	// ErrInvalid if most is less than 1.
	ListUser(ctx context.Context, user string, after Record, most int) ([]Record, error)
	// CountUser returns how many live sessions user has.
	CountUser(ctx context.Context, user string) (int64, error)
	// DestroyUser ends all sessions of user except the given ones, and returns
	// how many it ended. No session that was created before the call survives
	// it, nor does what it is renewed to meanwhile for the same user. The same
	// holds for one that the database had begun to create or renew when it was
	// called. One that it begins later counts as created after the call. A
	// renewed key in except stands for what it was renewed to, as in Destroy.
	DestroyUser(ctx context.Context, user string, except ...Key) (int64, error)
	// CreateLimited is Create under a limit that holds against all concurrent
	// creations and renewals under a limit. It also returns the keys of the
	// sessions it ended to make room; when it fails, it has ended none. A user
	// with over a thousand sessions more than the limit allows, as after it was
	// set, is an exception. The first of that user's sessions may have been
	// ended before, in steps.
	CreateLimited(ctx context.Context, rec Record, limit UserLimit) (Record, []Key, error)
	// RenewLimited is Renew under a limit on rec.User's sessions, as in
	// CreateLimited. The old session does not count.
	RenewLimited(ctx context.Context, old Key, rec Record, grace time.Duration, limit UserLimit) (Record, []Key, error)
}

// Pruned says what a pass of pruning did.
type Pruned struct {
	// Retired and Made count partitions that were dropped and made ahead; both
	// are 0 in stores without partitions.
	Retired, Made int
	// Rows is how many rows of dead sessions went, as far as it is known: those
	// in dropped partitions are counted by the server's estimate.
	Rows int64
	// Emptied is how many expired sessions lost their data and user. The rows
	// that are left keep their keys dead.
	Emptied int64
}

// Pruner is a store that removes dead sessions.
type Pruner interface {
	// PruneNow does a pass on this node, whichever node's turn it is, and
	// waits for one that is under way elsewhere.
	PruneNow(ctx context.Context) (Pruned, error)
	// StartPruning makes this node take part in pruning; StopPruning ends
	// that and waits until this node has stopped, or ctx ends. Both may be
	// called again, and in any order.
	StartPruning()
	StopPruning(ctx context.Context) error
}

// FreshGetter is a store with a cache that can be read past.
type FreshGetter interface {
	// GetFresh is Get from the database.
	GetFresh(ctx context.Context, key Key) (Record, error)
}

// VersionGetter is a store whose Get may answer from a memory that lags.
type VersionGetter interface {
	// GetVersion is Get that returns no version before the given one. It asks the
	// database where the memory holds an earlier one. A version that the session
	// has not got is no error, and costs a read of the database.
	GetVersion(ctx context.Context, key Key, version int64) (Record, error)
	// Lag returns for how long at most the Get of any node may return what was
	// replaced. It asks nobody and never blocks.
	Lag() time.Duration
}

// LateToucher is a store that can write a touch later.
type LateToucher interface {
	// TouchLater is Touch, but may return before the new expiry is written
	// when the store knows that the session is live and lasts for as long as
	// that takes. An expiry that then cannot be written is counted and logged,
	// unless the session was ended meanwhile: the session ends earlier.
	TouchLater(ctx context.Context, key Key, expires time.Time) (time.Time, error)
}

// NodeWaiter is a store that can wait until a write has reached every node.
type NodeWaiter interface {
	// WaitForAllNodes waits for the writes that were acknowledged before the
	// call. It returns when no node can serve any more what they ended or
	// replaced.
	WaitForAllNodes(ctx context.Context) error
	// DestroyOnAllNodes is Destroy followed by WaitForAllNodes. When ctx ends in between, it
	// fails with the context's error: the sessions have ended, but other nodes
	// may serve them for a moment.
	DestroyOnAllNodes(ctx context.Context, keys ...Key) (int64, error)
}

// Fate is what became of a session.
type Fate int

// The fates. A session that is dead stays dead, but may be forgotten.
const (
	// FateUnknown: there never was a session of that key, or it is forgotten.
	FateUnknown Fate = iota
	// FateLive: Get finds it.
	FateLive
	// FateRenewed: another session has replaced it. In its grace period Get
	// finds that one.
	FateRenewed
	// FateEnded: a call ended it, such as Destroy, Clear or a Save with an
	// expiry that had passed.
	FateEnded
	// FateExpired: its idle timeout or its deadline has passed.
	FateExpired
)

var fateNames = [...]string{
	FateUnknown: "unknown", FateLive: "live", FateRenewed: "renewed", FateEnded: "ended", FateExpired: "expired",
}

// String returns a name such as "expired".
func (f Fate) String() string {
	if f < 0 || int(f) >= len(fateNames) {
		return "unknown"
	}
	return fateNames[f]
}

// Explainer is a store that can say why Get finds nothing: a log is to show a
// timeout and an ID that never was apart (OWASP Session Management Cheat Sheet).
type Explainer interface {
	// Fate returns, from the database, what became of the session of key
	// itself. A renewed one is FateRenewed whatever became of its successor.
	// One that was ended after it had expired is FateEnded or FateExpired. The
	// zero Key is FateUnknown, as are keys that no session can have.
	//
	// With an error, which says that nobody could be asked, it is FateUnknown
	// too. Fate is for logs: what a request may do is for Get to decide. The
	// ErrNotFound of an Explainer's Get tells the same, by NotFound.
	Fate(ctx context.Context, key Key) (Fate, error)
}

// Statser is a store that counts what it does.
type Statser interface {
	// Stats returns a snapshot. It asks nobody and never blocks for long.
	Stats() Stats
}

// Stats counts what a store has done since it was made. Fields that a store
// has no use for stay zero.
//
// A field about the present never reads well when nothing is known: an age is
// then [math.MaxInt64], a time is zero, and a bool is false. Fields that were
// read from the database are as of Refreshed.
type Stats struct {
	// Gets counts reads by key; Probes those among them that had to search
	// because the key has no bucket.
	Gets, Probes uint64
	// Creates, Saves, Touches, Renews and Destroys count sessions written: a
	// Put is a create or a save, a session ended in bulk or by a limit is a
	// destroy. Refused counts writes that failed for a reason of their own, as
	// ErrNotFound.
	Creates, Saves, Touches, Renews, Destroys, Refused uint64
	// Flushes counts transactions that wrote batches.
	Flushes uint64
	// Retries counts transactions that were repeated after a conflict in the
	// database or a lost answer; Unknown counts those whose outcome stayed
	// open.
	Retries, Unknown uint64
	// Queue is about the writes that are under way.
	Queue QueueStats
	// LateTouches is how many expiries TouchLater has promised that are not written
	// yet. LateTouchFailures counts expiries that TouchLater promised and that were
	// not written; BackgroundErrors all failures of background work.
	LateTouches                         int
	LateTouchFailures, BackgroundErrors uint64
	// Pruned adds up what this node has pruned.
	Pruned Pruned
	// Partitions is how many partitions there are as far as this node knows.
	Partitions int
	// Leading says that this node is the one that prunes, for the Term-th time.
	Leading bool
	Term    uint64
	// Maintained is when any node last finished a pass of pruning that left
	// nothing undone of what was due, and MaintainedBy which.
	Maintained   time.Time
	MaintainedBy string
	// MadeAhead, Retired and Thinned are the duties of a pass, in a store with
	// partitions. They are to make partitions that sessions will need, to drop
	// those whose time is over, and to remove sessions that went idle long
	// before their deadline.
	MadeAhead, Retired, Thinned Duty
	// Limits says what this node cannot do in a pass because of its role or
	// its connection; empty: nothing that it knows of.
	Limits string
	// Refreshed is when, by this node's clock, the store last read from the
	// database what Partitions, Maintained, MaintainedBy and Cache.QueueUsage
	// say. It is zero in stores that read nothing of the kind ahead.
	Refreshed time.Time
	// Cache is about the node's own memory, in stores that use it.
	Cache CacheStats
}

// QueueStats is about the writes that a store holds until the database has
// answered, or their callers have given up. A store holds a bounded number of
// them, and of bytes. A write that comes when that is reached waits with its
// data until there is room, its context ends, or it would have lasted too long.
type QueueStats struct {
	// Writes and Bytes are what the store holds now, by an estimate: the data of
	// sessions and a few hundred bytes for each write.
	Writes int
	Bytes  int64
	// Waiting is how many writes the store does not hold yet: for want of room, or
	// since another write of the same session is under way.
	Waiting int
	// Refused counts writes for which there was no room in time; see ErrOverloaded.
	Refused uint64
}

// Add returns the sum of both.
func (s QueueStats) Add(other QueueStats) QueueStats {
	s.Writes += other.Writes
	s.Bytes += other.Bytes
	s.Waiting += other.Waiting
	s.Refused += other.Refused
	return s
}

// Duty is a part of maintenance.
type Duty struct {
	// Done is when any node last did all of it that was due. It stays as it is
	// while something is due that could not be done. Zero: never.
	Done time.Time
	// By is the NodeName of that node.
	By string
}

// EchoTimes are the upper bounds of CacheStats.Echoes.
var EchoTimes = [...]time.Duration{
	250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

// CacheStats counts what a store's cache has done since it was made.
type CacheStats struct {
	// Hits are the reads that were answered from memory, Misses the others.
	Hits, Misses uint64
	// RefusedByGeneration counts rows that were read but not kept, because the
	// session may have been written meanwhile. RefusedByEpoch counts rows that
	// were not kept because messages may have been missed meanwhile.
	// RefusedByServer counts rows that came from another server than the one
	// that sends messages.
	RefusedByGeneration, RefusedByEpoch, RefusedByServer uint64
	// Messages counts invalidations that other nodes have sent.
	Messages uint64
	// Each counts how often the cache was emptied, and is named after the
	// reason. The connection that listens was lost, or was cut since heartbeats
	// did not come back through it. The machine was suspended or its clock was
	// set. A message was not understood.
	Disconnects, Silences, ClockJumps, UnknownPayloads uint64
	// Leased says that the cache may answer now. LeaseAge is how long ago the
	// heartbeat was sent that proves it; while Leased is false it is
	// [math.MaxInt64], also in a store whose cache is switched off.
	Leased   bool
	LeaseAge time.Duration
	// Echoes counts heartbeats by the time from their sending until they came
	// back, which an invalidation takes as well. Echoes[i] counts those up to
	// EchoTimes[i], the last one all slower ones.
	Echoes [len(EchoTimes) + 1]uint64
	// LostEchoes counts heartbeats that were committed and did not come back.
	LostEchoes uint64
	// QueueUsage is the share of the server's notification queue that is in
	// use, from 0 to 1, as of Stats.Refreshed. Notifying writes fail when it is
	// full.
	QueueUsage float64
	// Entries and Bytes are what the cache holds, by estimate.
	Entries int
	Bytes   int64
}
