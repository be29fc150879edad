// Package nodestore lets a Go service use the session table of a Node
// application, at the same time as that application.
//
//	db := stdlib.OpenDBFromPool(pool) // pgx; or sql.Open("mysql", …), sql.Open("sqlite", …)
//	store, err := nodestore.New(ctx, db, nodestore.ConnectPGSimple(), nodestore.Options{})
//	e, err := store.Get(ctx, id)                            // what Node wrote
//	e, err = store.Save(ctx, e, changed, time.Time{})       // what Node reads next
//
// docs/node.md has a working set-up for each package, and a table of what they
// and this one can do.
//
// # Layouts
//
// A Layout is a table as a package for Node keeps it: the functions
// ConnectPGSimple, ConnectPostgresSimple, ConnectSessionSequelize,
// KoaGenericSessionSequelize, ExpressMySQLSession, ConnectSQLite,
// ConnectSessionKnex, BetterSQLite3SessionStore and KoaSessionKnexStore return the
// packages' defaults. Where the application has another table, other columns or
// another prefix, change the fields; where it has another package, fill in a
// Layout. Rows are written byte for byte as the package writes them: the
// document, the rounding of the expiry, the form of a date.
//
// New compares the layout with the table and names the column that does not fit.
//
// # Reading
//
// Get serves no session that has expired, though some of the packages do until
// they have pruned it. The column of expiries is the truth; the cookie.expires
// in a document grows stale, as a touch does not change it. IDs are compared
// byte for byte: some columns have a collation that ignores case.
//
// # Writing
//
// Save is for a session that was read. It compares the document with what was
// read and is session.ErrConflict when Node, or another Go service, has changed
// it since; it never brings back a session that was destroyed. Renew moves a
// session to a new ID in one transaction, by the same comparison. Node's own
// stores compare nothing: a request that read the session before a Save and
// writes it afterwards restores what it had read. Nothing on this side can
// prevent that. Requests of one session that a middleware of this package serves
// at the same time save one after the other, and make their changes to what the
// one before has written.
//
// Set is what Node does: the last one wins. It takes the expiry from the
// document, in the order and with the rounding of the package, unless it is told
// another one. An expiry that has passed ends the session. Touch writes the
// expiry only and finds no session that has expired.
//
// # Handlers
//
// NewExpress, NewKoa and NewKoaSession give the requests of a Go service the
// sessions of an application with express-session, koa-generic-session or
// koa-session, by the same cookie:
//
//	sessions, err := nodestore.NewExpress(store, nodestore.ExpressOptions{Secrets: secrets})
//	srv.Handler = sessions.Handler(mux)
//	s, err := nodestore.FromContext(r.Context()) // in a handler
//	user, err := nodestore.Value[string](s, "passport", "user")
//
// What a request changes is a change by key: if others have written since, it
// is made to what they wrote. It is saved before the first byte of the answer.
//
// # Time
//
// The application's clock decides what is live, since that is so in all
// packages: the database's would disagree with theirs. Keep the clocks of all
// machines together, by NTP say. At the moment of expiry the packages differ by
// up to a second, and a layout does as its package does.
//
// connect-pg-simple and connect-postgres-simple keep the expiry as the wall
// clock of the connection's TimeZone. The server converts it, so a Go
// connection must have the TimeZone that Node's have. That is the database's
// default unless somebody sets it; New logs a warning if the connection does.
// In the hour that is repeated when summer time ends such an expiry may be read
// an hour late. In MySQL dates are UTC, whatever loc, parseTime and time_zone
// are.
//
// # Pruning
//
// A pass each 15 minutes or so removes what has expired. It finds the rows first
// and deletes them by their IDs, a batch at a time, so that no live row is
// locked. Every process may do it, also beside Node's, but one is enough: see
// Options.Leader.
//
//	locker := pglock.FromPool(pool, leader.Key("shop", "prune sessions"), "pruner")
//	opts := nodestore.Options{Leader: leader.Alone(locker, leader.Options{})}
//
// # What happens on failure
//
// Every error wraps the driver's. A statement that the server ended because of
// others, by a deadlock say, is repeated. A write whose answer was lost is
// session.ErrUnknown: read the session again. No error has an ID in its text,
// nor a piece of a document.
package nodestore
