package leader_test

import (
	"context"
	dbsql "database/sql"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/sojourn-go/sojourn/leader"
	"github.com/sojourn-go/sojourn/leader/mysqllock"
	"github.com/sojourn-go/sojourn/leader/pglock"
)

// One of all processes that run this deletes old jobs every minute.
func ExampleRun() {
	run := func(ctx context.Context, pool *pgxpool.Pool, log *zap.Logger) error {
		locker := pglock.FromPool(pool, leader.Key("shop", "jobs", "cleanup"), "shop cleanup")
		return leader.Run(ctx, locker, leader.Options{Logger: log}, func(leading context.Context, term *leader.Term[*pgx.Conn]) error {
			tick := time.NewTicker(time.Minute)
			defer tick.Stop()
			for {
				err := term.Do(leading, 30*time.Second, func(ctx context.Context, conn *pgx.Conn) error {
					_, err := conn.Exec(ctx, `DELETE FROM shop.jobs WHERE done_at < now() - interval '1 day'`)
					return err
				})
				if err != nil {
					return err // logged; competes again after a pause
				}
				select {
				case <-leading.Done():
					return nil
				case <-tick.C:
				}
			}
		})
	}
	_ = run
}

// The same with MariaDB or MySQL. The lock belongs to the server, so the name of
// the database is a part of its key.
func ExampleRun_mySQL() {
	run := func(ctx context.Context, config *mysql.Config, work func(context.Context, *leader.Term[*dbsql.Conn]) error) error {
		locker := mysqllock.New(config, leader.Key("shop", config.DBName, "jobs", "cleanup"), "shop cleanup")
		return leader.Run(ctx, locker, leader.Options{}, work)
	}
	_ = run
}
