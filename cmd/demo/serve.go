package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// serve runs the demo for people until ctx ends.
func serve(ctx context.Context, kind string, out io.Writer) error {
	fmt.Fprintln(out, "Starting …")
	f, err := startFleet(ctx, kind, out, func(node, text string) {
		fmt.Fprintf(out, "%s  %s  %s\n", time.Now().Format("15:04:05.000"), node, text)
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return nil // it failed because we were told to stop
	case err != nil:
		return err
	}
	fmt.Fprint(out, welcome(f))
	f.keep(ctx)
	fmt.Fprintln(out, "\nStopping …")
	return f.stop(ctx)
}

func welcome(f *fleet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n", f.db.about)
	for _, n := range f.nodes {
		fmt.Fprintf(&b, "  %s   %s   process %d\n", n.conf.Name, n.url("/"), n.proc.pid())
	}
	for _, lack := range f.kind.lacks {
		fmt.Fprintf(&b, "\nNot shown by this store: %s.", lack)
	}
	first, second := f.nodes[0], f.nodes[1]
	b.WriteString("\nOpen them in a browser, or try:\n\n")
	columns := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	try := func(comment, format string, args ...any) {
		fmt.Fprintf(columns, "  %s\t# %s\n", fmt.Sprintf(format, args...), comment)
	}
	try("log in on one node", "curl -c jar -b jar -d user=alice -d label=curl %s", first.url("/login"))
	try("another one knows you", "curl -b jar %s", second.url("/me"))
	try("count; on two nodes at once, no click is lost", "curl -b jar -X POST %s", second.url("/count"))
	try("see where you are logged in", "curl -b jar %s", first.url("/sessions"))
	try("log out one of these", "curl -b jar -d handle=… %s", second.url("/revoke"))
	try("log out; every node refuses you", "curl -b jar -X POST %s", second.url("/logout"))
	try("the same, and the answer waits until no node could serve you, whatever it misses", "curl -b jar -d nodes=all %s", second.url("/logout"))
	try("log out wherever you are logged in", "curl -b jar -X POST %s", first.url("/logout-all"))
	try("see who leads, the partitions, and what comes from memory", "curl %s", first.url("/stats"))
	try("a node dies; another leads if it did, and it comes back", "kill -9 %d", first.proc.pid())
	columns.Flush()
	b.WriteString("\nCtrl-C stops everything.\n\n")
	return b.String()
}
