// Package migrations makes and updates the tables that pgstore uses.
//
// Up does it, Validate tells whether it is done and needs no rights to change
// anything. SQL prints the statements, to be run by hand. A program is meant to
// call Up from a deployment step or at its start, and Validate before it
// serves.
//
// # What is made
//
// In a schema of your choice, for a table called sessions:
//
//	sessions                 the sessions, partitioned by the hour of their deadline
//	sessions_499950 …        its partitions
//	sessions_meta            one row: the version, and what all nodes must agree on
//	sessions_make_partition  a function that returns the partition of an hour and
//	                         makes it if it is missing
//	sessions_version         tern's version number
//
// The function runs with the rights of the tables' owner. It takes an hour,
// refuses one that no new session can have, and does nothing else. So a role
// which may only read and write rows can make the partition it needs. Where
// that is not wanted, revoke EXECUTE from it after Up, which grants it to
// Roles.App.
//
// # After a restore
//
// A dump of the tables alone, as pg_dump --table makes it, lacks the function;
// one of the definitions alone lacks the rows. Up makes what is missing: the
// function, tern's version table, and the row of sessions_meta, with the
// settings of its Config. Validate says that Up has to be run.
//
// # Versions
//
// Each version of the tables says which programs can use it: those with at
// least its min_compatible version. So programs of two versions can run side by
// side while one replaces the other, and an old one can be started again. There
// is no way back to an older version.
//
// # What happens on failure
//
// Every migration runs in a transaction, under an advisory lock, on a
// connection of its own that is closed whatever happens. After a failure, a
// cancelled context or a lost connection the database has a version as before
// or after a migration, never one in between. Up can be called again.
package migrations
