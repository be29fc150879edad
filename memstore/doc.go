// Package memstore keeps sessions in the memory of one process. It is meant for
// tests, examples and programs that run alone: a restart ends all sessions.
//
// It keeps every promise of [session.Store] and of the optional interfaces but
// those of a cache, and is the plainest code that does: one map, one lock.
// What a store has to do is best read here.
package memstore
