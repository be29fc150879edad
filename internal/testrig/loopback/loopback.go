// Package loopback finds TCP ports for test servers.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Listen listens on a free port of 127.0.0.1, outside the range that systems
// use for outgoing connections. While a server on a port of that range is down,
// clients that keep dialling it could be given its port, and even connect to
// themselves.
func Listen() (net.Listener, error) {
	const low, high = 20000, 32000
	var last error
	for range 100 {
		l, err := net.Listen("tcp", Addr(low+rand.IntN(high-low)))
		if err == nil {
			return l, nil
		}
		last = err
	}
	return nil, fmt.Errorf("loopback: no free port: %w", last)
}

// FreePort returns a port that nobody listens on, though somebody may soon.
func FreePort() (int, error) {
	l, err := Listen()
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// Addr is the port on 127.0.0.1 as an address to dial.
func Addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
