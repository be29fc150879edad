// Package memstore keeps sessions in the memory of one process. It is meant for
// tests, examples and programs that run alone: a restart ends all sessions.
//
// It keeps every promise of [session.Store] and of the optional interfaces,
// except the promises of a cache. It is the plainest code that does: one map,
// one lock. It is the best place to read what a store has to do.
package memstore
