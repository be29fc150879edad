package mysqlstore

import (
	"math/bits"
	"strings"

	migrations "github.com/sojourn-go/sojourn/migrations/mysql"
)

// query names one of the statements.
type query int

const (
	get query = iota
	lock
	now
	insertAnonymous
	insertOfUser
	saveData
	saveAll
	touch
	end
	save
	renewed
	moveTo
	takeStripe
	shareStripe
	pageOfUser
	ofUser
	keysOfUser
	countUser
	count
	page
	pageKeys
	pageToEnd
	retire
	nextID
	maxID
	sweepFind
	takeTurn
	readFacts
	setSwept
	takePass
	givePass
	tryWrite

	// These exist for several numbers of sessions.
	lockSome
	lockEach
	insertSome
	saveSome
	touchSome
	endSome
	shareStripes
	sweep
)

// text is a statement for so many sessions; 0 where it makes no difference.
type text struct {
	query query
	size  int
}

func one(q query) text { return text{query: q} }

// queries are the texts of all statements, with their names filled in.
type queries map[text]string

func (q queries) of(t text) string { return q[t] }

// names are the tables, qualified and quoted.
type names struct{ sessions, meta, users string }

// maxSize is how many sessions one statement is about at most.
const maxSize = 1024

// sizeFor is the smallest size that n sessions fit into. A caller with fewer
// repeats one of them.
func sizeFor(n int) int { return 1 << bits.Len(uint(n-1)) }

// columns are what rowOf reads first.
const columns = `bucket, kept_to, version, expires_at, deadline, created_at, ended_at, renewed_to, grace_until, user_id`

// Microseconds since 1970 UTC: now at the start of the statement, and at the
// time of evaluation, which may be after a wait for a lock. The store's own
// connections are in UTC, which SYSDATE needs.
const (
	started = `TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))`
	present = `TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))`
)

// writable is the condition that a lone write tests once it has the row. Every
// row that it lets through is changed, so it makes no difference whether the
// server counts rows that were found or that were changed.
const writable = ` WHERE hash = ? AND ? IN (0, bucket) AND ended_at IS NULL AND expires_at > ` + present

// inTime is the condition on the expiry and the deadline of a new session, and
// on how far ahead the deadline may lie.
const inTime = `? > ` + present + ` AND ? <= ` + present + ` + ?`

// sharedUnlessHeld shares rows that nobody holds alone, and leaves out the others.
// MySQL and MariaDB each read the comment that is for them.
const sharedUnlessHeld = ` /*!80000 FOR SHARE SKIP LOCKED */ /*M! LOCK IN SHARE MODE SKIP LOCKED */`

const liveOfUser = ` WHERE user_id = ? AND ended_at IS NULL AND expires_at > ` + started

func newQueries(n names) queries {
	t, meta, users := n.sessions, n.meta, n.users
	inserted := t + ` (hash, bucket, kept_to, version, expires_at, deadline, created_at, user_id, data)`
	q := queries{
		one(get):  `SELECT ` + columns + `, data, ` + started + ` FROM ` + t + ` WHERE hash = ?`,
		one(lock): `SELECT ` + columns + `, NULL, ` + present + ` FROM ` + t + ` WHERE hash = ? FOR UPDATE`,
		one(now):  `SELECT ` + started,

		// A lone write is one statement, and a transaction of its own. If its
		// time is not right the hash is NULL, which the table refuses.
		one(insertAnonymous): `
INSERT INTO ` + inserted + ` VALUES (IF(` + inTime + `, ?, NULL), ?, ?, ?, ?, ?, ?, ?, ?)`,
		one(insertOfUser): `
INSERT INTO ` + inserted + ` SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? FROM ` + users + ` WHERE stripe = ? AND ` + inTime + sharedUnlessHeld,
		// The expiry in force comes back as the id that was inserted last.
		one(saveData): `
UPDATE ` + t + ` SET version = ?, expires_at = LAST_INSERT_ID(expires_at), data = ?` + writable + `
  AND version = ? AND deadline = ? AND created_at = ? AND user_id <=> ?`,
		one(saveAll): `
UPDATE ` + t + ` SET version = ?, expires_at = LAST_INSERT_ID(LEAST(?, deadline)), data = ?` + writable + `
  AND version = ? AND deadline = ? AND created_at = ? AND user_id <=> ? AND ? > ` + present,
		one(touch): `
UPDATE ` + t + ` SET expires_at = LAST_INSERT_ID(LEAST(?, deadline))` + writable + ` AND LEAST(?, deadline) > expires_at`,
		one(end): `UPDATE ` + t + ` SET ended_at = ` + present + `, user_id = NULL, data = NULL` + writable,

		// Each of these comes after the row was locked, which has decided that it
		// may be done.
		one(save):   `UPDATE ` + t + ` SET version = ?, expires_at = ?, data = ? WHERE hash = ?`,
		one(moveTo): `UPDATE ` + t + ` SET expires_at = ? WHERE hash = ?`,
		one(renewed): `
UPDATE ` + t + ` SET ended_at = ?, user_id = NULL, data = NULL, renewed_to = ?, grace_until = ? WHERE hash = ?`,

		one(takeStripe):  `SELECT ` + present + `, stripe FROM ` + users + ` WHERE stripe = ? FOR UPDATE`,
		one(shareStripe): `SELECT ` + present + `, stripe FROM ` + users + ` WHERE stripe = ? LOCK IN SHARE MODE`,
		// An ended session has no user.
		one(pageOfUser): `
SELECT id, hash, 1 FROM ` + t + ` FORCE INDEX (by_user) WHERE user_id = ? AND id > ? ORDER BY id LIMIT ?`,
		one(ofUser): `
SELECT ` + columns + `, data, ` + started + `, hash, id FROM ` + t + liveOfUser + `
  AND (created_at > ? OR created_at = ? AND hash > ?) ORDER BY created_at, hash LIMIT ?`,
		one(keysOfUser): `
SELECT ` + columns + `, NULL, ` + started + `, hash, id FROM ` + t + liveOfUser + ` ORDER BY created_at, id`,
		one(countUser): `
SELECT COUNT(*) FROM ` + t + ` WHERE user_id = ? AND ended_at IS NULL AND expires_at > ` + started,

		one(count): `SELECT COUNT(*) FROM ` + t + ` WHERE ended_at IS NULL AND expires_at > ` + started,
		one(page): `
SELECT ` + columns + `, data, ` + started + `, hash, id FROM ` + t + `
WHERE id > ? AND ended_at IS NULL AND expires_at > ` + started + ` ORDER BY id LIMIT ?`,
		one(pageKeys): `
SELECT id, hash, bucket FROM ` + t + `
WHERE id > ? AND ended_at IS NULL AND expires_at > ` + started + ` ORDER BY id LIMIT ?`,
		one(pageToEnd): `
SELECT id, hash, ended_at IS NULL FROM ` + t + ` FORCE INDEX (by_id) WHERE id > ? ORDER BY id LIMIT ?`,

		one(retire): `DELETE FROM ` + t + ` WHERE kept_to < ? ORDER BY kept_to LIMIT ?`,
		one(nextID): `SELECT MIN(id) FROM ` + t + ` WHERE id > ?`,
		one(maxID):  `SELECT MAX(id) FROM ` + t,
		one(sweepFind): `
SELECT hash FROM ` + t + ` WHERE id >= ? AND id < ? AND ended_at IS NULL AND expires_at < ?`,

		one(takeTurn): `UPDATE ` + meta + ` SET pruned_at = ` + started + `, pruned_by = ? WHERE one = 1`,
		one(readFacts): `
SELECT ` + started + `, longest_hours, ` + migrations.RetireGrace + `, pruned_at, pruned_by, swept_to FROM ` + meta + ` WHERE one = 1`,
		one(takePass): `SELECT GET_LOCK(?, ?)`,
		one(givePass): `SELECT RELEASE_LOCK(?)`,
		one(setSwept): `UPDATE ` + meta + ` SET swept_to = ? WHERE one = 1`,
		// tryWrite changes nothing, but is refused where nothing may be
		// changed.
		one(tryWrite): `UPDATE ` + meta + ` SET swept_to = swept_to WHERE one = 0`,
	}
	for size := 1; size <= maxSize; size *= 2 {
		list := marks(size)
		in := ` FORCE INDEX (PRIMARY) WHERE hash IN (` + list + `)`
		which := `FIELD(hash, ` + list + `)`
		q[text{lockEach, size}] = `
SELECT ` + columns + `, NULL, ` + present + `, hash FROM ` + t + in + ` ORDER BY hash FOR UPDATE`
		q[text{lockSome, size}] = q[text{lockEach, size}] + ` SKIP LOCKED`
		q[text{insertSome, size}] = `
INSERT INTO ` + inserted + ` VALUES ` + repeat(`(?, ?, ?, ?, ?, ?, ?, ?, ?)`, size)
		q[text{saveSome, size}] = `
UPDATE ` + t + ` FORCE INDEX (PRIMARY) SET version = ELT(` + which + `, ` + list + `),
  expires_at = ELT(` + which + `, ` + list + `), data = ELT(` + which + `, ` + list + `) WHERE hash IN (` + list + `)`
		q[text{touchSome, size}] = `
UPDATE ` + t + ` FORCE INDEX (PRIMARY) SET expires_at = ELT(` + which + `, ` + list + `) WHERE hash IN (` + list + `)`
		q[text{endSome, size}] = `
UPDATE ` + t + ` FORCE INDEX (PRIMARY) SET ended_at = ?, user_id = NULL, data = NULL WHERE hash IN (` + list + `)`
		q[text{shareStripes, size}] = `
SELECT ` + present + `, stripe FROM ` + users + ` WHERE stripe IN (` + list + `) ORDER BY stripe` + sharedUnlessHeld
		// sweep keeps the rows: a key could be put again once its row is gone.
		q[text{sweep, size}] = `
UPDATE ` + t + ` FORCE INDEX (PRIMARY) SET ended_at = expires_at, user_id = NULL, data = NULL
WHERE hash IN (` + list + `) AND ended_at IS NULL AND expires_at < ?`
	}
	return q
}

func marks(n int) string { return repeat(`?`, n) }

func repeat(item string, n int) string { return strings.Repeat(item+`, `, n-1) + item }
