package nodestore

import (
	"fmt"
	"net/http"
	"net/netip"

	"github.com/sojourn-go/sojourn/session"
)

// proxyNames are the names that Express has for subnets.
var proxyNames = map[string][]string{
	"loopback":    {"127.0.0.1/8", "::1/128"},
	"linklocal":   {"169.254.0.0/16", "fe80::/10"},
	"uniquelocal": {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"},
}

// always trusts all proxies or none.
func always(trusts bool) func(*http.Request) bool {
	return func(*http.Request) bool { return trusts }
}

// trustedProxies makes a function of Express' setting 'trust proxy'.
func trustedProxies(all bool, names []string) (func(*http.Request) bool, error) {
	var subnets []netip.Prefix
	for i, name := range names {
		texts, known := proxyNames[name]
		if !known {
			texts = []string{name}
		}
		for _, text := range texts {
			subnet, err := netip.ParsePrefix(text)
			if one, e := netip.ParseAddr(text); e == nil {
				subnet, err = netip.PrefixFrom(one, one.BitLen()), nil
			}
			if err != nil {
				return nil, fmt.Errorf("nodestore: %w: Options.TrustedProxies[%d] is %q; it must be an address, a subnet, loopback, linklocal or uniquelocal", session.ErrInvalid, i, name)
			}
			subnets = append(subnets, subnet.Masked())
		}
	}
	if all || len(subnets) == 0 {
		return always(all), nil
	}
	return func(r *http.Request) bool {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return false
		}
		address := from.Addr().Unmap().WithZone("")
		for _, subnet := range subnets {
			if subnet.Contains(address) {
				return true
			}
		}
		return false
	}, nil
}
