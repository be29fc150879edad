package reqsession

import (
	"net/http"
	"slices"
	"strings"
)

// Personal tells caches that the answer depends on the request's cookies, and
// keeps shared ones from storing it.
func Personal(header http.Header) {
	if !slices.ContainsFunc(tokens(header["Vary"]), func(name string) bool { return strings.EqualFold(name, "Cookie") }) {
		header.Add("Vary", "Cookie")
	}
	directives := tokens(dropCaching(header))
	for _, d := range directives {
		if strings.EqualFold(d, "no-store") {
			header.Set("Cache-Control", strings.Join(directives, ", "))
			return
		}
	}
	kept := []string{"private"}
	for _, d := range directives {
		switch name, _, _ := strings.Cut(strings.ToLower(d), "="); name {
		case "private", "public", "s-maxage": // these let shared caches store it, or a part
		default:
			kept = append(kept, d)
		}
	}
	header.Set("Cache-Control", strings.Join(kept, ", "))
}

// forbidStorage keeps all caches from storing an answer that sets a cookie.
func forbidStorage(header http.Header) {
	dropCaching(header)
	header.Del("Expires")
	header.Set("Cache-Control", "no-store")
}

// dropCaching removes the fields that a shared cache obeys, and returns the lines
// of Cache-Control. Fields for some caches only go before Cache-Control (RFC 9213,
// section 2.2), and so do the older fields of single products. A handler may have
// put them into the map as they are.
func dropCaching(header http.Header) (control []string) {
	for name, lines := range header {
		switch name := strings.ToLower(name); {
		case name == "cache-control":
			control = append(control, lines...)
		case strings.HasSuffix(name, "-cache-control"): // CDN-Cache-Control and those of vendors
		case name == "surrogate-control", name == "edge-control", name == "x-accel-expires":
		default:
			continue
		}
		delete(header, name)
	}
	return control
}

// spareCookies has the browser keep what the answer sets: it obeys
// Clear-Site-Data after Set-Cookie.
func spareCookies(header http.Header) {
	clears := tokens(header["Clear-Site-Data"])
	if len(clears) == 0 || !slices.ContainsFunc(header["Set-Cookie"], keeps) {
		return
	}
	var left []string
	for _, what := range clears {
		switch what {
		case `"cookies"`:
		case `"*"`:
			left = append(left, `"cache"`, `"storage"`)
		default:
			left = append(left, what)
		}
	}
	if header.Del("Clear-Site-Data"); len(left) > 0 {
		header.Set("Clear-Site-Data", strings.Join(left, ", "))
	}
}

// keeps reports whether a line of Set-Cookie gives the browser something to keep.
func keeps(line string) bool {
	cookie, err := http.ParseSetCookie(line)
	return err != nil || cookie.MaxAge >= 0 && (cookie.Expires.IsZero() || cookie.Expires.Unix() > 0)
}

// tokens are the members of a field's lists.
func tokens(lines []string) (all []string) {
	for one := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		if one = strings.TrimSpace(one); one != "" {
			all = append(all, one)
		}
	}
	return all
}
