package direct

import (
	"crypto/tls"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Around is [FromPool] for connections that lead to the pool's database some
// other way, around a pooler for instance: as dsn says, and as the pool's
// configuration says where dsn is silent, about the user, the password and TLS
// too. BeforeConnect gets what results, and has the last word on all but hosts,
// ports and the database. An empty dsn stands for the pool's own way.
func Around(pool *pgxpool.Pool, dsn string) (*Source, error) {
	s := FromPool(pool)
	if dsn == "" {
		return s, nil
	}
	config, err := merged(s.config, dsn)
	if err != nil {
		return nil, err
	}
	s.config, s.pinned = config, true
	return s, nil
}

// merged is the configuration of a pool with what dsn says about it.
func merged(pool *pgx.ConnConfig, dsn string) (*pgx.ConnConfig, error) {
	parsedPool, err := pgxpool.ParseConfig(dsn) // which takes settings of pools out
	if err != nil {
		return nil, err
	}
	parsed, given := parsedPool.ConnConfig, keywords(dsn)
	says := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return given[k] || given["service"] })
	}

	config := pool.Copy()
	if says("dbname", "database") {
		config.Database = parsed.Database
	}
	another := says("user") && parsed.User != pool.User
	if says("user") {
		config.User = parsed.User
	}
	if another || says("password", "passfile") || config.Password == "" {
		config.Password = parsed.Password
	}
	if says("connect_timeout") {
		config.ConnectTimeout = parsed.ConnectTimeout
	}
	if says("target_session_attrs") {
		config.ValidateConnect = parsed.ValidateConnect
	}
	if says("default_query_exec_mode") {
		config.DefaultQueryExecMode = parsed.DefaultQueryExecMode
	}
	if config.RuntimeParams == nil {
		config.RuntimeParams = map[string]string{}
	}
	for name, value := range parsed.RuntimeParams {
		if says(name) {
			config.RuntimeParams[name] = value
		}
	}

	hosts := hostsOf(&parsed.Config)
	if !says("host") {
		first := hostsOf(&pool.Config)[0]
		if says("port") {
			first.Port = parsed.Port
		}
		hosts = []*pgconn.FallbackConfig{first}
	}
	if !says("host") || !says("sslmode", "ssl", "sslcert", "sslkey", "sslrootcert", "sslnegotiation", "sslsni") {
		hosts = protect(hosts, pool)
	} else {
		config.SSLNegotiation = parsed.SSLNegotiation
	}
	config.Host, config.Port, config.TLSConfig = hosts[0].Host, hosts[0].Port, hosts[0].TLSConfig
	config.Fallbacks = hosts[1:]
	return config, nil
}

// hostsOf lists what a configuration tries, one after the other.
func hostsOf(config *pgconn.Config) []*pgconn.FallbackConfig {
	first := &pgconn.FallbackConfig{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}
	return append([]*pgconn.FallbackConfig{first}, config.Fallbacks...)
}

// protect has each of the hosts tried with the TLS that the pool uses for its
// first one. A pool that goes through a socket knows of none.
func protect(hosts []*pgconn.FallbackConfig, pool *pgx.ConnConfig) []*pgconn.FallbackConfig {
	if isSocket(pool.Host, pool.Port) {
		return hosts
	}
	var out []*pgconn.FallbackConfig
	seen := map[pgconn.FallbackConfig]bool{}
	for _, h := range hosts {
		place := pgconn.FallbackConfig{Host: h.Host, Port: h.Port}
		switch {
		case seen[place]:
			continue
		case isSocket(h.Host, h.Port):
			out = append(out, h)
			continue
		}
		seen[place] = true
		for _, p := range hostsOf(&pool.Config) {
			if p.Host != pool.Host || p.Port != pool.Port {
				break
			}
			out = append(out, &pgconn.FallbackConfig{Host: h.Host, Port: h.Port, TLSConfig: forHost(p.TLSConfig, pool.Host, h.Host)})
		}
	}
	return out
}

func isSocket(host string, port uint16) bool {
	network, _ := pgconn.NetworkAddress(host, port)
	return network == "unix"
}

// forHost expects the certificate of another host where it expected was's.
func forHost(config *tls.Config, was, host string) *tls.Config {
	if config == nil || config.ServerName != was {
		return config
	}
	config = config.Clone()
	config.ServerName = host
	return config
}

// pin puts hosts, ports and database back to what they were before a hook.
func pin(config, was *pgx.ConnConfig) {
	config.Host, config.Port, config.Database = was.Host, was.Port, was.Database
	if len(config.Fallbacks) != len(was.Fallbacks) {
		config.Fallbacks = was.Fallbacks
	}
	for i, f := range was.Fallbacks {
		config.Fallbacks[i].Host, config.Fallbacks[i].Port = f.Host, f.Port
	}
}

// keywords are those that a valid dsn sets, as libpq calls them.
func keywords(dsn string) map[string]bool {
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		return urlKeywords(dsn)
	}
	given := map[string]bool{}
	for rest := dsn; ; {
		key, value, found := strings.Cut(rest, "=")
		if !found {
			return given
		}
		given[strings.TrimSpace(key)] = true
		rest = afterValue(strings.TrimLeft(value, " \t\n\r\v\f"))
	}
}

// afterValue skips a value, which may be quoted.
func afterValue(s string) string {
	quoted := strings.HasPrefix(s, "'")
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case quoted && i > 0 && c == '\'', !quoted && strings.ContainsRune(" \t\n\r\v\f", rune(c)):
			return s[i+1:]
		}
	}
	return ""
}

func urlKeywords(dsn string) map[string]bool {
	given := map[string]bool{}
	// Several hosts with ports are no URL to net/url. They stand between the user
	// and the path.
	_, rest, _ := strings.Cut(dsn, "://")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority, rest := rest[:end], rest[end:]
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user, _, hasPassword := strings.Cut(authority[:at], ":")
		given["user"], given["password"] = user != "", hasPassword
		authority = authority[at+1:]
	}
	given["host"] = authority != "" && !strings.HasPrefix(authority, ":")
	given["port"] = strings.Contains(authority[strings.LastIndex(authority, "]")+1:], ":")
	path, query, _ := strings.Cut(rest, "?")
	given["database"] = len(path) > 1
	if values, err := url.ParseQuery(query); err == nil {
		for key := range values {
			given[key] = true
		}
	}
	return given
}
