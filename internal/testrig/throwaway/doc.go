// Package throwaway runs server programs for tests.
//
// A [Server] lives in a folder of its own ([Home]), in memory or else below the
// system's temporary folder ([TempDir]), and belongs to the process that started
// it: on Linux it ends with that process even when it is killed, elsewhere the
// next [Sweep] ends it and removes what it left. It is started, stopped, killed,
// paused and frozen in the same way whatever it serves; its [Program] has what
// is a database's own.
//
// Its data folder is a copy of an initialised one that is kept in the user's
// cache folder for a day ([Template]).
//
// Database servers refuse to run as root. A process of root runs them as
// another user ([Account]).
package throwaway
