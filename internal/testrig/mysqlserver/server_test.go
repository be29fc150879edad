package mysqlserver

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/go-sql-driver/mysql"
)

func TestSettingsWinOverTheDefaults(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f Flavour) {
		s := run(t, f, Config{Durable: true, Settings: map[string]string{"max_connections": "20", "wait_timeout": "77"}})
		db := open(t, s.DSN(""))
		for name, want := range map[string]string{
			"max_connections": "20", "wait_timeout": "77", "innodb_flush_log_at_trx_commit": "1", "innodb_doublewrite": "ON",
			"bind_address": "127.0.0.1", "tmpdir": s.tmpDir(),
		} {
			var got string
			if err := db.QueryRowContext(t.Context(), "SHOW GLOBAL VARIABLES LIKE '"+name+"'").Scan(new(string), &got); err != nil || got != want {
				t.Errorf("%s: got %q (%v), want %q", name, got, err, want)
			}
		}
	})
}

func TestRootNeedsItsPasswordAndNobodyElseCanLogIn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, f Flavour) {
		s := run(t, f, Config{})
		cfg, err := mysql.ParseDSN(s.DSN(""))
		if err != nil {
			t.Fatal(err)
		}
		for user, password := range map[string]string{"root": "", "": "", "mysql": ""} {
			cfg.User, cfg.Passwd = user, password
			var answer *mysql.MySQLError
			if err := connects(t.Context(), cfg.FormatDSN()); !errors.As(err, &answer) {
				t.Errorf("%q without a password: %v, want the server's refusal", user, err)
			}
		}
		db := open(t, s.DSN("mysql"))
		var with sql.NullInt64
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM user WHERE user = 'root' AND host NOT IN ('localhost', '127.0.0.1')").Scan(&with); err != nil || with.Int64 != 0 {
			t.Errorf("%d more roots (%v), want none", with.Int64, err)
		}
	})
}
