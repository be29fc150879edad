package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/internal/faultproxy"
)

// reroute leads the connections on which the nodes listen and lead through
// proxies of ours, which can break them. It is called before start.
func (db *postgresDB) reroute(f *fleet) error {
	if db.wire == "" {
		return nil
	}
	for _, n := range f.nodes {
		link, err := faultproxy.New(db.wire)
		if err != nil {
			return err
		}
		n.link = link
		if n.conf.Direct, err = via(db.dsn, link.Addr()); err != nil {
			return err
		}
	}
	return nil
}

// unroute ends the proxies. It is called after stop.
func (f *fleet) unroute() {
	for _, n := range f.nodes {
		if n.link != nil {
			n.link.Close()
		}
	}
}

// wireOf is the host:port that conn leads to, or empty where a proxy on
// another address cannot take its place.
func wireOf(conn *pgx.Conn) string {
	if tls := conn.Config().TLSConfig; tls != nil && !tls.InsecureSkipVerify {
		return "" // the certificate is for the server's name
	}
	if addr, ok := conn.PgConn().Conn().RemoteAddr().(*net.TCPAddr); ok {
		return addr.String()
	}
	return ""
}

// via is dsn with the server at addr instead. User and password are spelt out,
// since a password file goes by the server's name.
func via(dsn, addr string) (string, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		u, err := url.Parse(dsn)
		if err != nil {
			return "", errors.New("the URL of the database is not valid") // the cause could show the password
		}
		u.Host, u.User = addr, url.UserPassword(config.User, config.Password)
		q := u.Query()
		for _, name := range []string{"host", "port", "user", "password"} {
			q.Del(name)
		}
		u.RawQuery = q.Encode()
		return u.String(), nil
	}
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace
	return fmt.Sprintf("%s host='%s' port='%s' user='%s' password='%s'", // the last one counts
		dsn, host, port, quote(config.User), quote(config.Password)), nil
}
