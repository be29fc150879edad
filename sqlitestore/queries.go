package sqlitestore

import migrations "github.com/sojourn-go/sojourn/migrations/sqlite"

// query names one of the statements.
type query int

const (
	begin query = iota
	commit
	rollback
	get
	find
	insert
	save
	touch
	end
	renewed
	ofUser
	ofUserBare
	countUser
	count
	page
	pageKeys
	pageToEnd
	pageOfUser
	retire
	nextID
	maxID
	sweepFind
	sweep
	takeTurn
	readTurn
	setSwept
	readGrace
	tryWrite
	queryCount
)

// queries are the texts of all statements, with their names filled in.
type queries [queryCount]string

// columns are what rowOf reads first. The plus keeps the driver from looking up
// the column's declared type for each row, a tenth of a lookup's time. The user
// has none: the driver may take a text without a type for a time.
const columns = `+bucket, +kept_to, +version, +expires_at, +deadline, +created_at, +ended_at, +renewed_to, +grace_until, user_id`

func newQueries(n migrations.Names) *queries {
	t, meta := n.Sessions, n.Meta
	return &queries{
		begin:    `BEGIN IMMEDIATE`,
		commit:   `COMMIT`,
		rollback: `ROLLBACK`,

		get:  `SELECT ` + columns + `, +data FROM ` + t + ` WHERE key = ?1`,
		find: `SELECT ` + columns + `, NULL, +id FROM ` + t + ` WHERE key = ?1`,

		insert: `
INSERT INTO ` + t + ` (key, bucket, kept_to, version, expires_at, deadline, created_at, user_id, data)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (key) DO NOTHING`,

		// Each of these comes after a find under the same lock, which has
		// decided that it may be done.
		save:  `UPDATE ` + t + ` SET version = ?4, expires_at = ?2, data = ?3 WHERE id = ?1`,
		touch: `UPDATE ` + t + ` SET expires_at = ?2 WHERE id = ?1`,
		end:   `UPDATE ` + t + ` SET ended_at = ?2, user_id = NULL, data = NULL WHERE id = ?1`,
		renewed: `
UPDATE ` + t + ` SET ended_at = ?2, user_id = NULL, data = NULL, renewed_to = ?3, grace_until = ?4 WHERE id = ?1`,

		ofUser: `
SELECT ` + columns + `, +data, +id, +key FROM ` + t + `
WHERE user_id = ?1 AND ended_at IS NULL AND expires_at > ?2 AND (created_at, key) > (?3, ?4) ORDER BY created_at, key LIMIT ?5`,
		ofUserBare: `
SELECT ` + columns + `, NULL, +id, +key FROM ` + t + ` WHERE user_id = ?1 AND ended_at IS NULL ORDER BY created_at, id`,
		countUser: `SELECT count(*) FROM ` + t + ` WHERE user_id = ?1 AND ended_at IS NULL AND expires_at > ?2`,

		count: `SELECT count(*) FROM ` + t + ` WHERE ended_at IS NULL AND expires_at > ?1`,
		page: `
SELECT ` + columns + `, +data, +id, +key FROM ` + t + `
WHERE id > ?1 AND ended_at IS NULL AND expires_at > ?2 ORDER BY id LIMIT ?3`,
		pageKeys: `
SELECT id, key, bucket FROM ` + t + `
WHERE id > ?1 AND ended_at IS NULL AND expires_at > ?2 ORDER BY id LIMIT ?3`,

		pageToEnd: `SELECT ` + columns + `, NULL, +id, +key FROM ` + t + ` WHERE id > ?1 ORDER BY id LIMIT ?2`,
		// An ended session has no user.
		pageOfUser: `
SELECT ` + columns + `, NULL, +id, +key FROM ` + t + ` WHERE user_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3`,

		// The row with the highest id stays, so that ids only grow: Clear and
		// the listings walk along them.
		retire: `
DELETE FROM ` + t + ` WHERE id IN (
  SELECT id FROM ` + t + ` WHERE kept_to < ?1 AND id < (SELECT max(id) FROM ` + t + `) LIMIT ?2)`,

		nextID: `SELECT min(id) FROM ` + t + ` WHERE id > ?1`,
		maxID:  `SELECT max(id) FROM ` + t,
		sweepFind: `
SELECT EXISTS (SELECT 1 FROM ` + t + ` WHERE id >= ?1 AND id < ?2 AND ended_at IS NULL AND expires_at < ?3)`,
		// A key could be put again once its row is gone.
		sweep: `
UPDATE ` + t + ` SET ended_at = expires_at, user_id = NULL, data = NULL
WHERE id >= ?1 AND id < ?2 AND ended_at IS NULL AND expires_at < ?3`,

		// A time in the future was written before the clock was set back.
		takeTurn: `
UPDATE ` + meta + ` SET pruned_at = ?1, pruned_by = ?2 WHERE pruned_at IS NULL OR pruned_at <= ?3 OR pruned_at > ?1`,
		readTurn:  `SELECT pruned_at, pruned_by, swept_to FROM ` + meta,
		readGrace: `SELECT ` + migrations.RetireGrace + ` FROM ` + meta,
		setSwept:  `UPDATE ` + meta + ` SET swept_to = ?1`,
		// Changes nothing, but is refused where nothing may be changed.
		tryWrite: `UPDATE ` + meta + ` SET swept_to = swept_to WHERE one = 0`,
	}
}
