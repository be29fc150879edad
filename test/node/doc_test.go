// Package node tests package nodestore live beside the npm packages whose
// tables, rows and cookies it shares.
package node
