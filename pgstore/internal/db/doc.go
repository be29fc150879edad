// Package db takes statements of a store to the database, once: which connection
// they get and for how long, how a transaction begins and is committed, and what
// an error says about it.
//
//	Road ──▶ Conns: the caller's pool or the store's own, whichever has a connection
//	  │
//	  ├─ Ask, Query, QueryRow     a read; on another connection, if it was lost
//	  ├─ NewBatch … Send          one transaction, one round trip
//	  └─ Begin                    one transaction, several round trips
//	                                   │
//	                                   ▼ an error
//	                              OutcomeOf: rolled back, and why; or nobody knows
//
// Who sends a write decides by its outcome whether to send it again.
package db
