//go:build !linux

package deadpeer

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the system has no TCP_USER_TIMEOUT.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
