// Package pooled has the error of a connection that goes through a pooler where
// one to the server itself is needed.
package pooled

import "errors"

// Err says that something between this process and the server hands the
// statements of one connection to different server processes.
var Err = errors.New("the connection goes through a pooler, a direct one is needed")
