package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/invalidation"
	"github.com/sojourn-go/sojourn/migrations"
)

// What the nodes also say is about heartbeats and partitions.
const (
	beatPrefix       = "1h"
	partitionsPrefix = "1m"
)

func (d *postgresDB) told(ctx context.Context, most int, do func() error) (remark string, err error) {
	count, err := d.messages(ctx, do)
	if err == nil && (count < 1 || count > most) {
		err = fmt.Errorf("%d notifications; from 1 to %d were expected", count, most)
	}
	return fmt.Sprintf(" with %d notifications", count), err
}

// messages counts the notifications about sessions that the nodes send while
// do runs.
func (d *postgresDB) messages(ctx context.Context, do func() error) (count int, err error) {
	channel := invalidation.Channel(d.schema(), migrations.DefaultTable)
	end := channel + "_end" // a message on the nodes' own would empty their memories
	err = d.with(ctx, func(conn *pgx.Conn) error {
		for _, name := range []string{channel, end} {
			if _, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{name}.Sanitize()); err != nil {
				return err
			}
		}
		if err := do(); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, `SELECT pg_catalog.pg_notify($1, '')`, end); err != nil {
			return err
		}
		for {
			n, err := conn.WaitForNotification(ctx)
			switch {
			case err != nil:
				return err
			case n.Channel == end: // they come in the order of commits
				return nil
			case strings.HasPrefix(n.Payload, beatPrefix), strings.HasPrefix(n.Payload, partitionsPrefix):
			default:
				count++
			}
		}
	})
	return count, err
}
