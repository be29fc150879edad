// Package difftest has the stores do the same things, chosen at random, and compares
// what comes of them. memstore says what is right: it is written independently of
// the others.
package difftest
