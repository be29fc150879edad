package faultproxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sojourn-go/sojourn/internal/testrig/dbtest"
	"github.com/sojourn-go/sojourn/internal/testrig/faultproxy"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// echo starts a proxy in front of a server that sends everything back.
func echo(t *testing.T) *faultproxy.Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { defer conn.Close(); _, _ = io.Copy(conn, conn) })
		}
	})
	p, err := faultproxy.New(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); p.Close(); p.Close(); tasks.Wait() })
	return p
}

func dial(t *testing.T, p *faultproxy.Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("got %q and %v, want %q", got[:n], err, want)
	}
}

// expectSilence fails if something arrives within a moment.
func expectSilence(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := conn.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %q and %v, want silence", buf[:n], err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		t.Fatal(err)
	}
}

func TestPassForwardsEverythingInBothDirections(t *testing.T) {
	t.Parallel()
	conn := dial(t, echo(t))
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		if _, err := conn.Write(want); err != nil {
			t.Error(err)
		}
	})
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the answer differs (%v)", err)
	}
	tasks.Wait()
}

func TestDelayKeepsTheOrder(t *testing.T) {
	t.Parallel()
	p := echo(t)
	conn := dial(t, p)
	const delay = 30 * time.Millisecond
	p.SetMode(faultproxy.ToServer, faultproxy.Delay(delay))
	start := time.Now()
	send(t, conn, "one")
	send(t, conn, "two")
	expect(t, conn, "onetwo")
	if took := time.Since(start); took < delay {
		t.Errorf("the answer took %v, want at least %v", took, delay)
	}
}

func TestStalledBytesArriveInTheEnd(t *testing.T) {
	t.Parallel()
	p := echo(t)
	conn := dial(t, p)
	for _, d := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
		p.SetMode(d, faultproxy.Stall())
		send(t, conn, "held back")
		expectSilence(t, conn)
		p.SetMode(d, faultproxy.Pass())
		expect(t, conn, "held back")
	}
}

func TestDroppedBytesAreLostAndSoIsTheConnection(t *testing.T) {
	t.Parallel()
	for _, d := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
		p := echo(t)
		conn := dial(t, p)
		p.SetMode(d, faultproxy.Drop())
		send(t, conn, "lost")
		dbtest.Eventually(t, "the bytes are lost", func() bool { return p.Lost() == 4 })
		if err := p.Heal(); err != nil {
			t.Fatal(err)
		}
		send(t, conn, "after a gap")
		dbtest.Eventually(t, "the later ones are as well", func() bool { return p.Lost() == 15 })
		expectSilence(t, conn)
		other := dial(t, p)
		send(t, other, "healthy")
		expect(t, other, "healthy")
	}
}

func TestCutAfterLetsExactlySoManyBytesThrough(t *testing.T) {
	t.Parallel()
	for _, d := range []faultproxy.Direction{faultproxy.ToServer, faultproxy.ToClient} {
		p := echo(t)
		conn := dial(t, p)
		send(t, conn, "before")
		expect(t, conn, "before")
		p.SetMode(d, faultproxy.CutAfter(7))
		send(t, conn, "1234")
		expect(t, conn, "1234")
		send(t, conn, "567890")
		got, err := io.ReadAll(conn)
		if want := "567"; d == faultproxy.ToClient && string(got) != want || err != nil {
			t.Errorf("got %q and %v, want %q and the end", got, err, want)
		}
	}
}

func TestForgottenConnectionsAreSilentAndLaterOnesWork(t *testing.T) {
	t.Parallel()
	p := echo(t)
	forgotten := dial(t, p)
	send(t, forgotten, "known")
	expect(t, forgotten, "known")
	p.ForgetAll()
	send(t, forgotten, "lost")
	dbtest.Eventually(t, "the bytes are lost", func() bool { return p.Lost() == 4 })
	expectSilence(t, forgotten)
	other := dial(t, p)
	send(t, other, "healthy")
	expect(t, other, "healthy")
}

func TestResetIsSeenAsOne(t *testing.T) {
	t.Parallel()
	p := echo(t)
	open := dial(t, p)
	send(t, open, "x")
	expect(t, open, "x")
	p.ResetAll()
	if _, err := open.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ResetAll: got %v, want ECONNRESET", err)
	}
	p.SetMode(faultproxy.ToServer, faultproxy.ResetAfter(0))
	later := dial(t, p)
	send(t, later, "x")
	if _, err := later.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ResetAfter: got %v, want ECONNRESET", err)
	}
}

func TestCutAllEndsOpenConnectionsOnly(t *testing.T) {
	t.Parallel()
	p := echo(t)
	conn := dial(t, p)
	send(t, conn, "x")
	expect(t, conn, "x")
	p.CutAll()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want EOF", err)
	}
	dbtest.Eventually(t, "the connection is forgotten", func() bool { return p.Connections() == 0 })
	next := dial(t, p)
	send(t, next, "y")
	expect(t, next, "y")
}

func TestRefuseLeavesOpenConnectionsAlone(t *testing.T) {
	t.Parallel()
	p := echo(t)
	conn := dial(t, p)
	send(t, conn, "accepted") // one that still waits for that is reset
	expect(t, conn, "accepted")
	p.Refuse()
	if c, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		if err == nil {
			c.Close()
		}
		t.Errorf("got %v, want ECONNREFUSED", err)
	}
	send(t, conn, "still here")
	expect(t, conn, "still here")
	if err := p.Accept(); err != nil {
		t.Fatal(err)
	}
	again := dial(t, p)
	send(t, again, "back")
	expect(t, again, "back")
}

func TestUnreachableServerResetsTheClient(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p, err := faultproxy.New(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	conn, err := net.Dial("tcp", p.Addr()) // which may already see the reset
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want ECONNRESET", err)
	}
}

func TestCloseEndsStalledConnections(t *testing.T) {
	t.Parallel()
	p := echo(t)
	p.SetMode(faultproxy.ToServer, faultproxy.Stall())
	conn := dial(t, p)
	send(t, conn, "never delivered")
	dbtest.Eventually(t, "the connection is there", func() bool { return p.Connections() == 1 })
	p.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived the proxy")
	}
}
