package direct

import "github.com/jackc/pgx/v5"

// SetSetting gives a source another value for one of the settings that it
// connects with.
func (s *Source) SetSetting(name, value string) { s.settings[name] = value }

// Settings returns those that the server has not refused.
func (s *Source) Settings() map[string]string { return s.settings }

// Merged is what a source around a pooler connects with.
func Merged(pool *pgx.ConnConfig, dsn string) (*pgx.ConnConfig, error) { return merged(pool, dsn) }
