// Package dbtest starts throwaway Postgres, MariaDB and MySQL servers for tests.
//
// A test binary has one shared server of each kind, started by the first test that asks for
// it and stopped by [Main]:
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		pool := dbtest.Pool(t, dbtest.Postgres(t).Database(t), nil)
//		...
//	}
//
// A schema of its own is enough for most tests and the cheapest; notifications,
// advisory locks and migrations are per database. Tests that stop, pause or
// promote a server [Start] their own.
//
// [EachMySQL] runs a test on [MariaDB] and on [MySQL], with a [DB] on a
// [MySQLServer.Database] of its own.
//
// Without Postgres or MariaDB the tests are skipped, and fail where CI=true is
// set; without MySQL they are skipped there too. The environment variables
// PG_BIN, MARIADB_BIN and MYSQL_BIN select the server programs.
package dbtest
