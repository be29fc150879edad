package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// client is one connection to a server and the visitors whose requests it sends.
// net/http's client would take as much of the machine as the server it measures,
// so this one knows only what the answers here need.
type client struct {
	conn    net.Conn
	in      *bufio.Reader
	status  []byte
	body    []byte
	mine    []*visitor
	next    int             // index of the visitor whose turn it is
	took    []time.Duration // what the requests of a turn took
	forgets bool            // the server has no sessions: what was written is gone
}

func dial(ctx context.Context, addr string) (*client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, in: bufio.NewReader(conn)}, nil
}

// visitor is a logged-in user with a session.
type visitor struct {
	theme    int       // index into themes
	greeting string    // the answer to a login
	want     [2]string // the other answers, by theme
	login    []byte
	read     []byte
	write    [2][]byte // by theme
}

var themes = [2]string{light, dark}

// admit logs a user in, who is one of the client's visitors from now on.
func (c *client) admit(user string) error {
	v := &visitor{greeting: answer(user, light), login: request("POST", "/login?user="+url.QueryEscape(user), "")}
	cookie, err := c.exchange(v.login, v.greeting)
	if err == nil && cookie == "" {
		err = errors.New("no cookie")
	}
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	if c.forgets {
		user = everybody
	}
	v.read = request("GET", "/read", cookie)
	for i, theme := range themes {
		v.want[i] = answer(user, theme)
		v.write[i] = request("POST", "/write?"+themeKey+"="+theme, cookie)
	}
	c.mine = append(c.mine, v)
	return nil
}

// sendRead asks for the visitor's theme.
func (c *client) sendRead(v *visitor) error {
	_, err := c.exchange(v.read, v.want[v.theme])
	return err
}

// sendWrite gives the visitor the other theme.
func (c *client) sendWrite(v *visitor) error {
	theme := 1 - v.theme
	_, err := c.exchange(v.write[theme], v.want[theme])
	if err == nil && !c.forgets {
		v.theme = theme
	}
	return err
}

// sendLogin logs the visitor in once more, from another device as it were.
func (c *client) sendLogin(v *visitor) error {
	_, err := c.exchange(v.login, v.greeting)
	return err
}

// sendAny does what visitors do: mostly they read.
func (c *client) sendAny(v *visitor) error {
	switch n := rand.IntN(100); {
	case n < 90:
		return c.sendRead(v)
	case n < 98:
		return c.sendWrite(v)
	default:
		return c.sendLogin(v)
	}
}

func request(method, target, cookie string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, target)
	if cookie != "" {
		fmt.Fprintf(&b, "Cookie: %s\r\n", cookie)
	}
	if method != http.MethodGet {
		b.WriteString("Content-Length: 0\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

const longestBody = 1 << 16

var (
	statusOK     = []byte("HTTP/1.1 200 ")
	lengthHeader = []byte("Content-Length: ")
	cookieHeader = []byte("Set-Cookie: ")
)

// exchange sends a request and returns the cookie that comes with the answer, if
// any, as name=value. It is an error if the answer is not 200 and want.
func (c *client) exchange(req []byte, want string) (cookie string, err error) {
	if _, err := c.conn.Write(req); err != nil {
		return "", err
	}
	line, err := c.line()
	if err != nil {
		return "", err
	}
	c.status = append(c.status[:0], line...)
	length := -1
	for {
		line, err := c.line()
		if err != nil {
			return "", err
		}
		if len(line) == 0 {
			break
		}
		if text, found := bytes.CutPrefix(line, lengthHeader); found {
			if length, err = strconv.Atoi(string(text)); err != nil {
				return "", err
			}
		} else if text, found := bytes.CutPrefix(line, cookieHeader); found {
			text, _, _ = bytes.Cut(text, []byte(";"))
			cookie = string(text)
		}
	}
	if length < 0 || length > longestBody {
		return "", fmt.Errorf("answer %q: its length is not given or over %d", c.status, longestBody)
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	if _, err := io.ReadFull(c.in, c.body); err != nil {
		return "", err
	}
	if !bytes.HasPrefix(c.status, statusOK) || string(c.body) != want {
		return "", fmt.Errorf("answer %q %q, want 200 and %q", c.status, c.body, want)
	}
	return cookie, nil
}

// line reads a line without its end; it is valid until the next read.
func (c *client) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	return bytes.TrimSuffix(line, []byte("\r\n")), err
}
