package main

import "context"

// postgresCheck are the steps that need Postgres.
type postgresCheck struct {
	*check
	db *postgresDB
}

func (d *postgresDB) steps(common *check) []step {
	c := &postgresCheck{common, d}
	return []step{
		{"read from memory, without a query", stepLimit, c.warmReads},
		{"touch later", stepLimit, c.touchLater},
		{"cut a node's listening connection", longLimit, c.cut},
		{"stall a node's listening connection", longLimit, c.stall},
		{"log out and wait for all, one hears nothing", longLimit, c.logoutOnAllNodes},
		{"make partitions ahead", stepLimit, c.partitionsAhead},
		{"200,000 expired sessions vanish", longLimit, c.expire},
		{"kill -9 the leader, another takes over", stepLimit, c.killLeader},
		{"start the killed node again", startLimit, c.startKilled},
		{"survive a restart of Postgres", longLimit, c.restartPostgres},
	}
}

func (c *postgresCheck) restartPostgres(ctx context.Context) (string, error) {
	if c.db.server == nil {
		return "", notOurs
	}
	return c.restart(ctx, c.db.server)
}
