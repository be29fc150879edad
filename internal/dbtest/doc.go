// Package dbtest starts throwaway Postgres servers for tests.
//
// A test binary has one shared server, started by the first test that asks for
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
// Without Postgres the tests are skipped, and fail where CI=true is set. The
// environment variable PG_BIN selects the server programs.
package dbtest
