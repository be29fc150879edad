// Package deadpeer finds out that whoever is at the other end of a connection has
// gone without a word.
package deadpeer

import (
	"net"
	"time"
)

// userTimeout is how long sent bytes may go unacknowledged.
const userTimeout = 10 * time.Second

// Detect makes a connection over TCP notice a dead peer within about ten seconds,
// where the system can do that.
func Detect(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	// Not every system takes all of it, and the limits on each answer find a dead
	// peer as well.
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable:   true,
		Idle:     5 * time.Second,
		Interval: 2 * time.Second,
		Count:    3,
	})
	_ = setUserTimeout(tcp, userTimeout)
}
