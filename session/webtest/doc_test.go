// Package webtest tests what browsers see of package session: requests over HTTP/1.1
// and HTTP/2 that go to two nodes of a service, are slow, fail, stream, or run beside
// each other. It runs on a store in memory and on Postgres with its cache. What a
// store can get wrong of it is in sessiontest.RunHTTP, for all stores.
package webtest
