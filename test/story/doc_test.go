// Package story tests what no test of one package can: several processes of one
// service, with users who log in, click and log out all the while, nodes that are
// killed and frozen, a leader that is lost, a server that restarts, and partitions
// that are dropped. The service is cmd/demo as users start it.
package story
