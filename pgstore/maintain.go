package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/wait"
	"github.com/sojourn-go/sojourn/migrations"
	"github.com/sojourn-go/sojourn/session"
)

// maintenance is a pass on a connection of its own. Everything in it may be
// repeated, and may run on two nodes at once without harm.
type maintenance struct {
	s    *Store
	conn *pgx.Conn
}

// How long a statement of maintenance waits for a lock. Whatever it waits for,
// sessions queue behind it: so it gives up soon, and the next pass tries again.
const (
	lockBriefly = "200ms"
	// Detaching concurrently makes nobody wait, and cutting it short leaves
	// work for the next pass.
	lockPatiently = "10s"
)

func (m *maintenance) passKey() int64 {
	return m.s.lockKey("prune")
}

// lock waits for a pass that is under way elsewhere. It asks again and again,
// since a session that waits in the server holds up detaching.
func (m *maintenance) lock(ctx context.Context) error {
	return m.tryUntil(ctx, m.passKey())
}

func (m *maintenance) tryUntil(ctx context.Context, key int64) error {
	for {
		var got bool
		if err := m.conn.QueryRow(ctx, `SELECT pg_catalog.pg_try_advisory_lock($1)`, key).Scan(&got); err != nil || got {
			return err
		}
		if !wait.Sleep(ctx, 50*time.Millisecond+rand.N(100*time.Millisecond)) {
			return wait.Ended(ctx)
		}
	}
}

func (m *maintenance) unlock(ctx context.Context) { m.release(ctx, m.passKey()) }

// release gives a lock back. If that fails the connection is no good, and its
// end gives back everything.
func (m *maintenance) release(ctx context.Context, key int64) {
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := m.conn.Exec(bye, `SELECT pg_catalog.pg_advisory_unlock($1)`, key); err != nil {
		_ = m.conn.Close(bye)
	}
}

// ddl runs do under the lock that the makers of partitions take too.
func (m *maintenance) ddl(ctx context.Context, do func() error) error {
	if err := m.tryUntil(ctx, m.s.names.DDLKey); err != nil {
		return err
	}
	defer m.release(ctx, m.s.names.DDLKey)
	return do()
}

// exec runs one statement with a lock timeout, outside of a transaction.
func (m *maintenance) exec(ctx context.Context, lockTimeout, sql string, args ...any) error {
	if _, err := m.conn.Exec(ctx, `SELECT pg_catalog.set_config('lock_timeout', $1, false)`, lockTimeout); err != nil {
		return err
	}
	_, err := m.conn.Exec(ctx, sql, args...)
	return err
}

func (m *maintenance) facts(ctx context.Context) (*facts, error) {
	return m.s.readFacts(ctx, m.conn, m.s.facts.Load())
}

// makeAhead makes the partitions that sessions created before the next day
// need at most.
func (m *maintenance) makeAhead(ctx context.Context, done *session.Pruned) error {
	f, err := m.facts(ctx)
	if err != nil {
		return err
	}
	now := f.now()
	return m.fillGaps(ctx, f, session.BucketOf(now), session.BucketOf(now.Add(f.longest+m.s.opts.Premake)), done)
}

// fillGaps makes the partitions that are missing from bucket first to last.
func (m *maintenance) fillGaps(ctx context.Context, f *facts, first, last int32, done *session.Pruned) error {
	for try := 0; ; {
		bucket, gap := f.firstGap(int64(first), int64(last))
		if !gap {
			return nil
		}
		err := m.exec(ctx, lockBriefly, m.s.parent.makeLeaf, bucket)
		switch {
		case err == nil:
			done.Made++
		case fateOf(err) == fateLocked && try < lockTries:
			try++
			if !pause(ctx, 4+try) {
				return wait.Ended(ctx)
			}
		case isCode(err, "42501"): // insufficient_privilege
			return fmt.Errorf("this role may not call %s; grant it EXECUTE: %w", m.s.names.MakeLeaf, err)
		default:
			return err
		}
		if f, err = m.facts(ctx); err != nil {
			return err
		}
	}
}

// syncGrants gives the partitions the grants that the parent got later.
func (m *maintenance) syncGrants(ctx context.Context) error {
	rows, err := m.conn.Query(ctx, missingGrants, m.s.names.Sessions)
	if err != nil {
		return err
	}
	grants, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, sql := range grants {
		if err := m.exec(ctx, lockBriefly, sql); err != nil {
			return err
		}
	}
	return nil
}

const missingGrants = `
SELECT pg_catalog.format('GRANT %s ON %I.%I TO %s', p.privilege_type, n.nspname, c.relname,
         CASE WHEN p.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END)
FROM pg_catalog.pg_class AS parent
CROSS JOIN LATERAL pg_catalog.aclexplode(parent.relacl) AS p
LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = p.grantee
JOIN pg_catalog.pg_inherits AS i ON i.inhparent = parent.oid
JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE parent.oid = $1::text::regclass AND p.grantee <> parent.relowner
  AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
  AND NOT EXISTS (
    SELECT FROM pg_catalog.aclexplode(c.relacl) AS l
    WHERE l.grantee = p.grantee AND l.privilege_type = p.privilege_type)`

// journal tells all nodes that a pass was done.
func (m *maintenance) journal(ctx context.Context) error {
	return m.exec(ctx, lockBriefly,
		`UPDATE `+m.s.names.Meta+` SET maintained_at = pg_catalog.clock_timestamp(), maintained_by = $1`, m.s.opts.NodeName)
}

// mayRetire reports whether this role owns the table, as a member perhaps.
// What it lacks is said once.
func (s *Store) mayRetire(ctx context.Context, db migrations.Querier) (bool, error) {
	var may bool
	var owner string
	err := db.QueryRow(ctx, `
SELECT pg_catalog.pg_has_role(relowner, 'USAGE'), pg_catalog.pg_get_userbyid(relowner)
FROM pg_catalog.pg_class WHERE oid = $1::text::regclass`, s.names.Sessions).Scan(&may, &owner)
	if err == nil && !may {
		s.cannotRetire.Do(func() {
			err := fmt.Errorf("this role may not drop partitions: make it a member of %q, or let a node with such a role do the maintenance", owner)
			s.backgroundError("retire partitions", err)
		})
	}
	return may, err
}

var errLiveRows = errors.New("it holds live sessions, although its time is over; is its CHECK constraint in force?")

func (m *maintenance) alarm(table string, live int64, err error) error {
	m.s.log.Error("a partition cannot be retired", zap.String("partition", table), zap.Int64("live", live), zap.Error(err))
	return fmt.Errorf("%s: %w", table, err)
}
