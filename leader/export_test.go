package leader

import "github.com/jackc/pgx/v5"

// WithSetting gives a Postgres locker another value for one of the settings that
// it connects with.
func WithSetting(l Locker[*pgx.Conn], name, value string) Locker[*pgx.Conn] {
	l.(*postgres).settings[name] = value
	return l
}

// Settings returns those that the server has not refused.
func Settings(l Locker[*pgx.Conn]) map[string]string { return l.(*postgres).settings }
