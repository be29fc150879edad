package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/internal/pgschema"
	"github.com/sojourn-go/sojourn/pgstore/internal/db"
	"github.com/sojourn-go/sojourn/session"
)

// maintenance is one pass. Everything in it may be repeated, and may run on two
// nodes at once without harm.
type maintenance struct {
	p     *Pruning
	hand  hand
	sweep *sweeper

	owner string // of the table
	may   bool   // act as the owner
	facts *Facts
	done  session.Pruned
}

// duty is a part of maintenance that is told apart from the others.
type duty int

const (
	noDuty duty = iota
	dutyMake
	dutyRetire
	dutyThin
)

// errLater says that a step has more to do than fits into this pass. That is
// no failure, but the duty is not done.
var errLater = errors.New("the next pass goes on with it")

// pass runs the steps one after the other, and goes on after a failure: the
// next pass tries again what could not be done.
func (p *Pruning) pass(ctx context.Context, h hand, sweep *sweeper) passReport {
	m := &maintenance{p: p, hand: h, sweep: sweep}
	r := passReport{} // a node that cannot even look is not fit to lead
	if err := h.begin(ctx); err != nil {
		r.steps = append(r.steps, step{"begin a pass", err})
		return r
	}
	defer h.end(ctx)
	err := m.look(ctx)
	r.steps = append(r.steps, step{"look at the partitions", err})
	if err != nil {
		return r
	}
	r.fit = m.may

	undone := map[duty]bool{}
	for _, todo := range []struct {
		what string
		duty duty
		do   func(context.Context) error
	}{
		{"finish interrupted detaching", dutyRetire, m.finalize},
		{"take care of detached partitions", dutyRetire, m.adopt},
		{"make partitions ahead", dutyMake, m.makeAhead},
		{"pass on rights", noDuty, m.passOnRights},
		{"retire partitions", dutyRetire, m.retire},
		{"tell the other nodes", noDuty, m.notifyPartitions},
		{"thin out partitions", dutyThin, m.thin},
		{"note the pass", noDuty, func(ctx context.Context) error { return m.journal(ctx, undone, r.steps) }},
	} {
		if ctx.Err() != nil || h.conn.IsClosed() {
			break
		}
		err := todo.do(ctx)
		undone[todo.duty] = undone[todo.duty] || err != nil
		if errors.Is(err, errLater) {
			err = nil
		}
		r.steps = append(r.steps, step{todo.what, err})
	}
	r.done = m.done
	p.table.RefreshSoon()
	if r.done != (session.Pruned{}) {
		p.opts.Log.Info("maintenance", zap.Int("retired", r.done.Retired), zap.Int("made", r.done.Made), zap.Int64("rows", r.done.Rows), zap.Int64("emptied", r.done.Emptied))
	}
	return r
}

// look reads the role's rights and the facts, by which the steps go.
func (m *maintenance) look(ctx context.Context) (err error) {
	if m.may, m.owner, err = m.p.mayRetire(ctx, m.hand.conn); err != nil {
		return err
	}
	limit := ""
	if !m.may {
		limit = m.mayNot().Error()
	}
	m.p.limit("role", limit)
	return m.readFacts(ctx, m.hand.conn)
}

func (m *maintenance) readFacts(ctx context.Context, on batcher) error {
	f, err := m.p.table.read(ctx, on)
	if err == nil {
		m.facts = f
	}
	return err
}

// mayRetire reports whether this role owns the table, as a member perhaps, and
// which role does.
func (p *Pruning) mayRetire(ctx context.Context, on pgschema.Querier) (may bool, owner string, err error) {
	err = on.QueryRow(ctx, `
SELECT pg_catalog.pg_has_role(relowner, 'USAGE'), pg_catalog.pg_get_userbyid(relowner)
FROM pg_catalog.pg_class WHERE oid = $1::text::regclass`, p.table.opts.Names.Sessions).Scan(&may, &owner)
	return may, owner, err
}

// mayNot is the error of a step for which this role has too few rights.
func (m *maintenance) mayNot() error {
	return fmt.Errorf("this role may not drop partitions or change their rights: make it a member of %q, or let a node with such a role do the maintenance", m.owner)
}

// makeAhead makes the partitions that sessions created before the next day
// need at most.
func (m *maintenance) makeAhead(ctx context.Context) error {
	now := m.facts.Now()
	first, last := session.BucketOf(now), session.BucketOf(now.Add(m.facts.Longest+m.p.opts.Premake))
	for {
		bucket, gap := m.facts.firstGap(int64(first), int64(last))
		if !gap {
			return nil
		}
		_, err := m.hand.exec(ctx, lockBriefly, true, m.p.table.queries.makePartition, bucket)
		switch {
		case err == nil:
			m.done.Made++
		case db.IsCode(err, "42501"): // insufficient_privilege
			return fmt.Errorf("this role may not call %s; grant it EXECUTE: %w", m.p.table.opts.Names.MakePartition, err)
		case db.IsCode(err, "42883"): // undefined_function
			return fmt.Errorf("there is no function %s; migrations.Up makes it: %w", m.p.table.opts.Names.MakePartition, err)
		default:
			return err
		}
		if err := m.readFacts(ctx, m.hand.conn); err != nil {
			return err
		}
	}
}

// passOnRights gives the partitions the owner and the rights of their parent.
// Changes of the parent do not reach them by themselves.
func (m *maintenance) passOnRights(ctx context.Context) error {
	// The owner first: what a partition gives its owner it need not give others.
	for _, differing := range []string{strangers, differingRights()} {
		rows, err := m.hand.conn.Query(ctx, differing, m.p.table.opts.Names.Sessions)
		if err != nil {
			return err
		}
		statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
		switch {
		case err != nil:
			return err
		case len(statements) == 0:
			continue
		case !m.may:
			return m.mayNot()
		}
		if err := m.run(ctx, statements); err != nil {
			return err
		}
	}
	return nil
}

// run runs statements in one transaction, so that nobody sees a state between
// two of them.
func (m *maintenance) run(ctx context.Context, statements []string) error {
	return m.hand.transact(ctx, lockBriefly, true, func(tx pgx.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

const strangers = `
SELECT pg_catalog.format('ALTER TABLE %I.%I OWNER TO %I', n.nspname, c.relname, pg_catalog.pg_get_userbyid(parent.relowner))
FROM pg_catalog.pg_class AS parent
JOIN pg_catalog.pg_inherits AS i ON i.inhparent = parent.oid
JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE parent.oid = $1::text::regclass AND c.relowner <> parent.relowner AND NOT i.inhdetachpending`

func differingRights() string {
	return `
SELECT f.sql
FROM pg_catalog.pg_inherits AS i CROSS JOIN LATERAL (` + pgschema.FollowRights("i.inhparent", "i.inhrelid") + `) AS f
WHERE i.inhparent = $1::text::regclass AND NOT i.inhdetachpending`
}

// journal tells all nodes what was done. A duty that was left undone keeps the
// time at which it was last done.
func (m *maintenance) journal(ctx context.Context, undone map[duty]bool, steps []step) error {
	failed := slices.ContainsFunc(steps, func(s step) bool { return s.err != nil })
	_, err := m.hand.exec(ctx, lockBriefly, false, m.p.table.queries.journal,
		m.p.opts.NodeName, !undone[dutyMake], !undone[dutyRetire], !undone[dutyThin], !failed)
	return err
}

// notifyPartitions has the other nodes look at the partitions if this pass has
// made or retired some.
func (m *maintenance) notifyPartitions(ctx context.Context) error {
	if m.done.Made == 0 && m.done.Retired == 0 {
		return nil
	}
	return m.p.opts.Notify(ctx, m.hand.conn)
}
