package reqsession

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// What follows believes headers that anybody could send. A client that forges
// them only spares itself an error.

// ForwardedHTTPS reports whether a proxy says that the browser sent the request
// over TLS. Of several proxies the first in the list is the browser's.
func ForwardedHTTPS(r *http.Request) bool {
	return SecureScheme(r.Header.Get("X-Forwarded-Proto")) || SecureScheme(forwarded(r, "proto"))
}

// SecureScheme reports whether the first of a list of schemes is one over TLS.
func SecureScheme(list string) bool {
	switch strings.ToLower(first(list)) {
	case "https", "wss":
		return true
	}
	return false
}

// Remote returns the host for which a browser sent the request, if that is not on
// its own machine. By default proxies on this machine name it as the request's host.
// So what counts too is the host that a proxy tells, and the page of a form, unless
// that has come over TLS.
func Remote(r *http.Request) (host string, remote bool) {
	if !local(r.Host) {
		return r.Host, true
	}
	page, plain := strings.CutPrefix(r.Header.Get("Origin"), "http://")
	if !plain {
		page = ""
	}
	for _, host := range []string{first(r.Header.Get("X-Forwarded-Host")), forwarded(r, "host"), page} {
		if host != "" && !local(host) {
			return host, true
		}
	}
	return r.Host, false
}

// local reports whether host is this machine by its name or address, with or
// without a port.
func local(host string) bool {
	if at, err := netip.ParseAddrPort(host); err == nil {
		return at.Addr().IsLoopback()
	}
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return addr.IsLoopback()
	}
	name, _, _ := strings.Cut(strings.ToLower(host), ":")
	name = strings.TrimSuffix(name, ".")
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// InDomain reports whether a browser takes a cookie with that attribute Domain
// from the request's host (RFC 6265, section 5.1.3), as the request or a proxy
// names it.
func InDomain(r *http.Request, domain string) bool {
	domain = strings.ToLower(strings.Trim(domain, "."))
	for _, host := range []string{r.Host, first(r.Header.Get("X-Forwarded-Host")), forwarded(r, "host")} {
		host = hostname(host)
		below := strings.HasSuffix(host, "."+domain) && strings.Contains(domain, ".") // nobody has a whole top-level domain
		if host == domain || below {
			return true
		}
	}
	return domain == ""
}

// InPath reports whether a browser sends a cookie with that attribute Path with
// requests like this (RFC 6265, section 5.1.4), by the address that the browser
// or a proxy that strips a prefix has sent.
func InPath(r *http.Request, path string) bool {
	sent := sentPath(r)
	prefix := stripped(r)
	asSent := prefix == "" || pathMatches(sent, prefix) // a proxy may tell what it does not strip
	return asSent && pathMatches(sent, path) || prefix != "" && pathMatches(prefix+sent, path)
}

// stripped is what proxies say that they have taken off the browser's path; empty if
// nothing. The outermost is the first in the list.
func stripped(r *http.Request) (prefix string) {
	for part := range strings.SplitSeq(strings.Join(r.Header["X-Forwarded-Prefix"], ","), ",") {
		prefix += strings.TrimRight(strings.TrimSpace(part), "/")
	}
	return prefix
}

func pathMatches(sent, path string) bool {
	rest, found := strings.CutPrefix(sent, path)
	return found && (rest == "" || rest[0] == '/' || strings.HasSuffix(path, "/"))
}

// sentPath is the path of the browser's address, whatever handlers have stripped.
func sentPath(r *http.Request) string {
	sent := r.URL
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		sent = u
	}
	if path := sent.EscapedPath(); path != "" {
		return path
	}
	return "/"
}

// Places returns the host of a browser's request, and the attributes Domain and Path of the
// cookies that a browser sends with it, up to a number of each. The empty Domain
// is the first.
func Places(r *http.Request, most int) (host string, domains, paths []string) {
	host = hostname(cmp.Or(first(r.Header.Get("X-Forwarded-Host")), forwarded(r, "host"), r.Host))
	domains = []string{""}
	if net.ParseIP(host) == nil {
		for rest := host; strings.Contains(rest, ".") && len(domains) < most; _, rest, _ = strings.Cut(rest, ".") {
			domains = append(domains, rest)
		}
	}
	sent := sentPath(r)
	if prefix := stripped(r); !pathMatches(sent, prefix) {
		sent = prefix + sent
	}
	paths = []string{"/"}
	for i := 1; i <= len(sent) && len(paths) < most; i++ {
		if i == len(sent) && sent[i-1] != '/' || i < len(sent) && sent[i] == '/' {
			paths = append(paths, sent[:i])
		}
	}
	return host, domains, paths
}

// hostname is a host without its port, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
}

func first(list string) string {
	one, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(one)
}

// forwarded returns a parameter of the first element of the field Forwarded (RFC
// 7239).
func forwarded(r *http.Request, name string) string {
	for pair := range strings.SplitSeq(first(r.Header.Get("Forwarded")), ";") {
		key, value, _ := strings.Cut(pair, "=")
		if strings.EqualFold(strings.TrimSpace(key), name) {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}
