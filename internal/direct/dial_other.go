//go:build !linux

package direct

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the system has no TCP_USER_TIMEOUT.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
