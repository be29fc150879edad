package deadpeer

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestUnacknowledgedBytesEndTheConnection(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	Detect(conn)

	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got, keepalives int
	var failed error
	err = raw.Control(func(fd uintptr) {
		if got, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); failed == nil {
			keepalives, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		}
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	if time.Duration(got)*time.Millisecond != userTimeout || keepalives != 1 {
		t.Errorf("TCP_USER_TIMEOUT is %d ms, SO_KEEPALIVE %d; want %v and 1", got, keepalives, userTimeout)
	}
}
