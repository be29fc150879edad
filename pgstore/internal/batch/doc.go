// Package batch sends writes until their outcome is known: those of many callers
// in one transaction, or one caller's.
//
//	      Op ──▶ Lane.Do ──▶ handover.Queue ──▶ Lane.run takes a batch
//	                                                │
//	                     Lane.attempt ◀─────────────┘
//	                          │   ▲ again, in halves, with more patience: Lane.afterFailure
//	                          ▼   │
//	      one of the flush functions: a statement a partition, then Finish each Op
//	                          │
//	Writer.UntilKnown         │      a transaction of one caller, repeated alike
//	          └───────────────┴──▶ package db: once, and what the error says
//
// It knows keys, rows and statements. What partition takes a key, what other
// nodes are told, and what this node has in memory are the store's to say.
package batch
