package db

import (
	"fmt"
	"strings"
)

// BeginSQL names everything that a role, a database or a pooler may have set
// otherwise. READ COMMITTED is needed, because a statement that looks again
// after a lock needs a new snapshot.
const BeginSQL = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE`

// The second statement of every batch tells which server answers, and its time
// before anything else is done. Its settings last until the end of the
// transaction, so they also work behind a transaction pooler.
const (
	// Pins are settings that no statement may inherit from role, database or
	// connection. Names are looked up in pg_catalog first and then where the
	// role has it, for the triggers that a table may have.
	Pins = `
       pg_catalog.set_config('search_path', CASE WHEN pg_catalog.texteq(pg_catalog.current_setting('search_path'), '') THEN 'pg_catalog'
         ELSE pg_catalog.concat('pg_catalog, ', pg_catalog.current_setting('search_path')) END, true),
       pg_catalog.set_config('client_encoding', 'UTF8', true)`

	// pinTexts has values that are sent as text mean the same everywhere. It
	// goes before the statement that tells the time.
	pinTexts = `
SELECT pg_catalog.set_config('DateStyle', 'ISO', true), pg_catalog.set_config('TimeZone', 'UTC', true),
       pg_catalog.set_config('bytea_output', 'hex', true), pg_catalog.set_config('array_nulls', 'on', true),
       pg_catalog.set_config('quote_all_identifiers', 'off', true)`

	// limitAll has the server end a transaction that is waited for too long, or
	// whose client is not heard of anymore. Servers before 17 have no limit for
	// the whole. There only the client's host has to answer, within some 10 s;
	// who waits for a lock ends the others.
	limitAll = `
       pg_catalog.set_config('lock_timeout', $1, true), pg_catalog.set_config('statement_timeout', $2, true),
       CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL
         THEN pg_catalog.set_config('transaction_timeout', $3, true)
         ELSE pg_catalog.concat(pg_catalog.set_config('tcp_keepalives_idle', '1', true), pg_catalog.set_config('tcp_keepalives_interval', '1', true)) END,
       pg_catalog.set_config('idle_in_transaction_session_timeout', '5s', true)`

	startLone = `
SELECT pg_catalog.pg_postmaster_start_time(), pg_catalog.clock_timestamp(),` + Pins + `,` + limitAll

	// A plan made from the statistics of an empty or tiny partition would scan it, and
	// stay cached while the partition grows. The generic plan is the right one for
	// every batch size. Statements for one row have no plan but the right one.
	StartBatch = startLone + `,
       pg_catalog.set_config('enable_seqscan', 'off', true), pg_catalog.set_config('enable_hashjoin', 'off', true),
       pg_catalog.set_config('enable_mergejoin', 'off', true), pg_catalog.set_config('enable_bitmapscan', 'off', true),
       pg_catalog.set_config('enable_indexscan', 'on', true), pg_catalog.set_config('enable_nestloop', 'on', true),
       pg_catalog.set_config('enable_partition_pruning', 'on', true),
       pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true),
       pg_catalog.set_config('jit', 'off', true)`

	// Touches commit asynchronously: one that a crash undoes ends a session a
	// little early.
	asyncCommit     = `, pg_catalog.set_config('synchronous_commit', 'off', true)`
	startLoneAsync  = startLone + asyncCommit
	startBatchAsync = StartBatch + asyncCommit

	// A read is one statement whatever the isolation level. A heartbeat is sent
	// like one: it waits for a lock when it commits.
	startRead = `
SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', '5s', true), pg_catalog.set_config('lock_timeout', '5s', true),` + Pins
)

// startAlone begins a transaction of several round trips with StartBatch. It is
// sent as one text: a role may not have left time between two.
func startAlone(limits []any) string {
	text := BeginSQL + `; ` + pinTexts + `; ` + StartBatch
	for i, limit := range limits {
		text = strings.ReplaceAll(text, fmt.Sprint("$", i+1), fmt.Sprint("'", limit, "'"))
	}
	return text
}

// A transaction that notifies holds a lock of the whole cluster while it
// commits. So its commit does not wait for the disk, or for a standby.
// MakeDurable, a transaction of its own, waits for them, and nothing is
// acknowledged before.
const (
	notify = `(SELECT pg_catalog.count(pg_catalog.pg_notify($4, p)) FROM pg_catalog.unnest($5::pg_catalog.text[]) AS p)`

	startNotifying     = startBatchAsync + `, ` + notify
	startLoneNotifying = startLoneAsync + `, ` + notify

	notifyAtLast = `
SELECT pg_catalog.set_config('synchronous_commit', 'off', true),
       (SELECT pg_catalog.count(pg_catalog.pg_notify($1, p)) FROM pg_catalog.unnest($2::pg_catalog.text[]) AS p)`

	MakeDurable = `SELECT pg_catalog.pg_logical_emit_message(true, 'sojourn', '')`
)

// DatabaseTime asks what the first statement of a batch tells.
const DatabaseTime = `SELECT pg_catalog.pg_postmaster_start_time(), pg_catalog.clock_timestamp()`

// BeginRead begins a transaction that reads, in one round trip.
const BeginRead = `BEGIN; ` + startRead + `; ` + pinTexts
