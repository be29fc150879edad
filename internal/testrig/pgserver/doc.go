// Package pgserver finds, installs and runs throwaway Postgres servers.
//
// A server lives in a folder of its own, in memory or else below the system's
// temporary folder, listens on 127.0.0.1 only and belongs to the process that started it: on
// Linux it ends with that process even when it is killed, elsewhere the next
// Start removes what a killed process left behind. The data folder is a copy of
// an initialised one that is kept in the user's cache folder for a day.
//
// The superuser has a random password, because a local superuser without one
// would let every other user of the machine run programs as ours. Other roles
// log in without a password.
//
// Postgres refuses to run as root. A process of root runs its servers as the
// user postgres, or nobody where there is none.
package pgserver
