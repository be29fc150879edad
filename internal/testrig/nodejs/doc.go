// Package nodejs finds Node and installs npm packages for tests that run the
// real thing beside our code. Nothing but packages of the registry that npm is
// set up for is fetched: native modules are compiled here, with the headers
// that came with Node.
package nodejs
