//go:build unix

package faultproxy

import (
	"net"
	"syscall"
)

// deafen ends the listening of a socket, whoever has a copy of it.
func deafen(l net.Listener) {
	conn, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return // it is closed
	}
	_ = conn.Control(func(fd uintptr) {
		_ = syscall.Shutdown(int(fd), syscall.SHUT_RD) // the listener is closed next all the same
	})
}
