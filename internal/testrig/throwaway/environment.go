package throwaway

import (
	"os"
	"strings"
)

// environment is ours without the variables that begin with one of the
// prefixes, which configure the programs, and in the C locale.
func environment(without []string) []string {
	var env []string
next:
	for _, kv := range os.Environ() {
		for _, prefix := range append([]string{"LC_"}, without...) {
			if strings.HasPrefix(kv, prefix) {
				continue next
			}
		}
		env = append(env, kv)
	}
	// Memory in large pages: processes of Postgres live shortly, and where the machine is
	// virtual, page faults are a third of what they cost.
	return append(env, "LC_ALL=C", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1")
}
