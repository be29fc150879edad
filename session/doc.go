// Package session is the vocabulary of Sojourn: what a session is, what its
// secret looks like, and what a store promises.
//
// # Life of a session
//
//	           Create / Put
//	                │
//	                ▼
//	   ┌───────── live ─────────┐
//	   │            │           │
//	   │ Renew      │ Destroy   │ idle timeout or deadline,
//	   │            │           │ by the store's clock
//	   ▼            ▼           ▼
//	renewed       ended      expired
//	   │
//	   └── for a grace period the old key leads to its successor
//
// There is no way back: a session that is renewed, ended or expired is never
// live again, whatever reads and writes are still under way. In particular
// Save and Touch never create a session.
//
// # Two ends
//
// A session has two ends. Deadline is absolute and fixed when the session is
// created; Expires is the idle timeout's end, slides with use and never passes
// the deadline (OWASP Session Management Cheat Sheet, "Session Expiration").
// The store's clock decides whether either has passed, not the clock of the
// node that asks.
//
// # Secrets
//
// An [ID] is what the browser holds. A store sees only its [Key], which holds
// a SHA-256 hash of it and is safe to log.
package session
