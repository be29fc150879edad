// Package pgserver finds, installs and runs throwaway Postgres servers.
//
// A server listens on 127.0.0.1 only and belongs to the process that started it:
// see package throwaway, which starts, stops and breaks it.
//
// The superuser has a random password, because a local superuser without one
// would let every other user of the machine run programs as ours. Other roles
// log in without a password.
//
// Postgres refuses to run as root. A process of root runs its servers as the
// user postgres, or nobody where there is none.
package pgserver
