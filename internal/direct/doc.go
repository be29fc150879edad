// Package direct opens connections to Postgres for what belongs to a session:
// locks that last, and notifications. Such a connection
//
//   - is its owner's alone, and no pool retires it;
//   - leads to one server process: a pooler is found out;
//   - leads to a server that takes writes: a standby is refused;
//   - outlives the timeouts that the role or the database sets for all sessions;
//   - notices within about ten seconds that its peer is gone, as does the server;
//   - can be broken from outside, whoever is using it.
package direct
