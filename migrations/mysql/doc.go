// Package mysql makes and updates the tables that mysqlstore uses, in MariaDB
// 10.6 or MySQL 8.0.16 and later.
//
// Up does it, Validate tells whether it is done and needs no rights to change
// anything. SQL prints the statements, to be run by hand. A program is meant to
// call Up from a deployment step or at its start, and Validate before it
// serves.
//
// A table called sessions comes with sessions_meta, which holds the version of
// the tables and what all nodes must agree on, and sessions_users, whose rows are
// locks: Up makes those that a restore or a TRUNCATE has lost. All are in the
// database that the connection has selected.
//
// Each version says which programs can use it: those with at least its
// min_compatible version. So programs of two versions can run side by side
// while one replaces the other. There is no way back to an older version.
//
// # What happens on failure
//
// These servers have no transactions around CREATE and ALTER. So every statement
// of a migration can be repeated, the version is written last, and Up takes up
// again what was interrupted, by a killed process too. Until it has, Validate
// says that the database is not migrated, or outdated, and programs of the
// version before go on.
//
// Any number of processes may call Up at once: they take turns by GET_LOCK.
// Where that lock does not reach all of them, as in a cluster that can be
// written to at several nodes, repeating each other's statements does no harm.
package mysql
