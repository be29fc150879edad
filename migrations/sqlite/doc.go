// Package sqlite makes and updates the tables that sqlitestore uses.
//
// sqlitestore.Open calls Up by itself. A program that brings a *sql.DB of its
// own calls Up from a deployment step or at its start, and the store calls
// Validate. SQL prints the statements, to be run by hand.
//
// A table called sessions comes with sessions_meta, which holds the version of
// the tables and when they were last pruned, and two indexes.
//
// Each version says which programs can use it: those with at least its
// min_compatible version. So programs of two versions can run side by side
// while one replaces the other. There is no way back to an older version.
//
// All migrations run in one transaction under SQLite's write lock, so any number
// of processes may call Up at once, and one that is interrupted has changed
// nothing.
package sqlite
